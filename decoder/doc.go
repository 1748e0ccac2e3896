// Package decoder turns the bytes of the pgoutput plugin into outbox events:
// messages → relations → rows → the attributes and data of a CloudEvent.
//
// It is on the path of every event, so it allocates nothing per row. An Event
// is a set of views into the receive buffer and into the decoder's own scratch
// space, valid until the next message is decoded. Whatever the server sends,
// the decoder answers with an event or an error and never reads past the
// message.
//
// The decoder reads protocol version 1: the server sends a transaction only
// once it has committed, so nothing that was rolled back ever arrives here.
//
// It knows neither connections nor topics. Start at [Decoder.Decode].
//
// The Go API of this package may change between minor versions.
package decoder
