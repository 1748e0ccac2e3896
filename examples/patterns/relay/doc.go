// Package relay hands events on to another broker: to NATS JetStream, and to
// RabbitMQ. Any other one works like one of these two.
//
// The relay is an ordinary consumer whose handler publishes, waits for the other
// broker's confirmation, and only then lets the transaction of the inbox commit. The
// events of a key come one after the other, so they arrive in order. What is in the
// inbox is not published again, whatever becomes of the consumer group.
//
// The handler's effect is in no database, so one gap is left: the relay may die after
// the confirmation and before the commit. Then those events, at most one batch of
// each key, are published again, in the same order and under the same name: source
// and id. Somebody has to recognize the name.
//
//   - JetStream does, by the header Nats-Msg-Id, for as long as the stream's window of
//     duplicates (two minutes by default). That is long enough if a relay that died
//     is running again within it. If it is not, these few events are there twice, and
//     a subscriber sees that by the header. Nothing else is ever published twice,
//     however long it takes: that is in the inbox.
//   - RabbitMQ's queues do not. Its streams can, but by a number that has to grow
//     for each named publisher, and the relay handles keys side by side. So the
//     receiver has an inbox of its own, a table of message IDs that it writes in the
//     transaction of its effect.
//
// The invariant: per key, each event is there once, in order.
package relay
