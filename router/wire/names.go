package wire

// StreamHeader carries the identity of the stream to which a record belongs. A
// later start uses it to distinguish the streamer's records from others in the
// same topic. It is not a CloudEvents attribute.
const StreamHeader = "streamer-stream"

// ReplayHeader marks a record that was published again on purpose. Such a
// record does not show how far the stream has come. If a replay wrote the
// record, the value is that of the ReplayExtension.
const ReplayHeader = "streamer-replay"

// The values of ReplayHeader that name no replay.
const (
	// ReplayDeadLetter marks a dead letter that was published after all.
	ReplayDeadLetter = "dead-letter"
	// ReplayTakeOver is also the ReplayExtension of an event that the publisher
	// before the streamer has left out, and later ones of its key not.
	ReplayTakeOver = "take-over"
	// ReplayResolution marks the decision about a dead letter.
	ReplayResolution = "resolution"
)

// ReplayExtension is the CloudEvents extension attribute that names the replay
// that published an event again, for consumers.
const ReplayExtension = "replay"

// SnapshotExtension is the CloudEvents extension attribute that marks an event
// whose row was committed before the stream began, for consumers. Its value is
// when the snapshot began.
const SnapshotExtension = "snapshot"

// SnapshotKeyHeader carries the row's place in the order of the snapshot, so
// that a later start knows which rows were published even if they are gone.
const SnapshotKeyHeader = "streamer-snapshot-key"

// DeadLetterHeader marks a record as a dead letter. Its value is the class.
const DeadLetterHeader = "streamer-dead-letter"
