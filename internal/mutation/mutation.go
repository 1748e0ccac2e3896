// Package mutation breaks the streamer on purpose, in named ways, to show that
// the fault matrix notices. Ordinary builds contain none of it: Active is a
// constant false there, and the compiler drops the code that depends on it. The
// build tag is "mutation", the switch is the environment variable
// MUTATE_STREAMER.
package mutation

// Name names one mutation.
type Name string

// The mutations. Each is a mistake that such systems have shipped with.
const (
	// ConfirmBeforeAcknowledgement saves and confirms what has been read, whether
	// or not it is acknowledged.
	ConfirmBeforeAcknowledgement Name = "confirm-before-acknowledgement"
	// ConfirmBeforeSave confirms what is acknowledged, whether or not it is saved.
	ConfirmBeforeSave Name = "confirm-before-save"
	// DropOnRetry treats a failed batch as done.
	DropOnRetry Name = "drop-on-retry"
	// ReorderOnRetry resends a failed batch in another order.
	ReorderOnRetry Name = "reorder-on-retry"
	// FilterByRowLSN skips rows whose own WAL position is below the checkpoint.
	FilterByRowLSN Name = "filter-by-row-lsn"
	// SkipReadBack starts without asking Kafka what was published.
	SkipReadBack Name = "skip-read-back"
	// NoFence takes over without fencing off the predecessor.
	NoFence Name = "no-fence"
	// SwallowDecodeError skips rows that cannot be decoded.
	SwallowDecodeError Name = "swallow-decode-error"
)

// The mutations that the model of the pipeline is shown to notice. Each reverts
// an earlier fix.
const (
	// OutliveHistory lets a flow go on with a server of another history, and
	// trusts positions alone.
	OutliveHistory Name = "outlive-history"
	// KeepTimeline leaves the checkpoint on the timeline on which it was first
	// made, and judges by its position what a promoted server has.
	KeepTimeline Name = "keep-timeline"
	// StopBetweenSessions ends at once when it is stopped while no session is
	// running.
	StopBetweenSessions Name = "stop-between-sessions"
	// RetryAtOnce retries without a pause after a refusal of the checkpoint store,
	// and after the opening of a stream.
	RetryAtOnce Name = "retry-at-once"
	// TrailAcrossConnections treats the part of a transaction that was received
	// before a connection ended as a complete transaction.
	TrailAcrossConnections Name = "trail-across-connections"
	// ConfirmUnread confirms what is stored before the session has read it.
	ConfirmUnread Name = "confirm-unread"
)

// All lists the mutations for the fault matrix.
func All() []Name {
	return []Name{
		ConfirmBeforeAcknowledgement, ConfirmBeforeSave, DropOnRetry, ReorderOnRetry,
		FilterByRowLSN, SkipReadBack, NoFence, SwallowDecodeError,
	}
}

// OfModel lists the mutations that the model of the pipeline notices.
func OfModel() []Name {
	return []Name{OutliveHistory, KeepTimeline, StopBetweenSessions, RetryAtOnce, TrailAcrossConnections, ConfirmUnread}
}
