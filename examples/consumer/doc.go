// Package consumer shows how to read what the streamer writes, with nothing but
// the CloudEvents SDK and a Kafka client. It is meant to be read and copied.
//
// Three things are worth knowing.
//
// A record is one CloudEvent. In binary mode, the default, the record's value
// is the payload as the application wrote it, and the attributes are the
// headers ce_id, ce_source, ce_type and so on. In structured mode the value is
// a JSON envelope around both. [Decode] reads either.
//
// A record may come twice. Source and ID together name an event. If the pair is
// already known, the event has been handled and should be skipped. That can
// happen after a crash of the streamer. It also happens to every consumer that
// is killed after it handled a record and before it committed the offset.
//
// Events of one aggregate arrive in the order in which their transactions were
// committed, because they have the same key and so share a partition. The
// extension sequence makes that visible: compared as text, it ascends within a
// partition, for one source. [Inbox] checks both.
package consumer
