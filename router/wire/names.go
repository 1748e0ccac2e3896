package wire

// StreamHeader carries the identity of the stream to which a record belongs. A
// later start uses it to distinguish the streamer's records from others in the
// same topic. It is not a CloudEvents attribute.
const StreamHeader = "streamer-stream"

// ReplayHeader marks a record that was published again on purpose. Such a
// record does not show how far the stream has come. If a replay wrote the
// record, the value is that of the ReplayExtension.
const ReplayHeader = "streamer-replay"

// ReplayExtension is the CloudEvents extension attribute that names the replay
// that published an event again, for consumers.
const ReplayExtension = "replay"

// DeadLetterHeader marks a record as a dead letter. Its value is the class.
const DeadLetterHeader = "streamer-dead-letter"
