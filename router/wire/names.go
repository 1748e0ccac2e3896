package wire

// StreamHeader carries the identity of the stream a record belongs to, so that
// a later start can tell our records from others in the same topic. It is no
// CloudEvents attribute.
const StreamHeader = "streamer-stream"

// ReplayHeader marks a record that was published again on purpose. It says
// nothing about how far the stream has come. Its value is that of the
// ReplayExtension where a replay has written it.
const ReplayHeader = "streamer-replay"

// ReplayExtension is the CloudEvents extension attribute that tells consumers
// which replay has published an event again.
const ReplayExtension = "replay"

// DeadLetterHeader tells that a record is a dead letter, and of which class.
const DeadLetterHeader = "streamer-dead-letter"
