// Package choreography is a saga without a conductor: three services, each with a
// database of its own, react to each other's events.
//
// A customer places an order. The payment service hears of it and takes the money,
// or refuses. The stock service hears that an order is paid and reserves the goods,
// or is out of stock. Then the payment service, which hears that too, gives the
// money back: that is the compensation. The order service hears how it went, and
// gives the order its one end.
//
//	order.placed ──▶ payment ──▶ payment.charged ──▶ stock ──▶ stock.reserved ──▶ order confirmed
//	                    │                               └────▶ stock.refused ──▶ payment
//	                    └──────▶ payment.refused ──────────────▶ order cancelled ◀── payment.refunded
//
// No transaction spans two services, so in between, the money of an order is taken
// and its goods are not reserved yet. The invariant is about the end: every order is
// confirmed or cancelled, once; what left the accounts is what confirmed orders
// cost; what left the shelves is what they contain.
//
// Each handler changes its own tables and writes its own events into its outbox, in
// the transaction in which the inbox notes the event that it handles. The streamer
// publishes what is committed, once. So the whole chain has an effect once, although
// any process may die at any moment, and no handler contains a line about repeats.
package choreography
