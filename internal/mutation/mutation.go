// Package mutation breaks the streamer on purpose, in named ways, so that the
// fault matrix can be shown to notice. Ordinary builds hold none of it: Active
// is a constant false there, and the compiler drops what depends on it. The
// build tag is "mutation", the switch is the environment variable
// MUTATE_STREAMER.
package mutation

// Name is one way of being wrong.
type Name string

// The ways. Each is a mistake that such systems have shipped with.
const (
	// ConfirmBeforeAcknowledgement saves and confirms what has been read,
	// acknowledged or not.
	ConfirmBeforeAcknowledgement Name = "confirm-before-acknowledgement"
	// ConfirmBeforeSave confirms what is acknowledged, saved or not.
	ConfirmBeforeSave Name = "confirm-before-save"
	// DropOnRetry takes a batch that failed for done.
	DropOnRetry Name = "drop-on-retry"
	// ReorderOnRetry sends a batch that failed again in another order.
	ReorderOnRetry Name = "reorder-on-retry"
	// FilterByRowLSN passes over rows whose own WAL position lies below the
	// checkpoint.
	FilterByRowLSN Name = "filter-by-row-lsn"
	// SkipReadBack starts without asking Kafka what was published.
	SkipReadBack Name = "skip-read-back"
	// NoFence takes over without keeping the predecessor out.
	NoFence Name = "no-fence"
	// SwallowDecodeError passes over rows that cannot be decoded.
	SwallowDecodeError Name = "swallow-decode-error"
)

// The ways that the model of the pipeline is shown to notice. Each undoes what was
// once mended.
const (
	// OutliveHistory lets a flow go on with a server of another history, and trusts
	// positions alone.
	OutliveHistory Name = "outlive-history"
	// KeepTimeline leaves the checkpoint on the timeline on which it was made first,
	// and judges by its position what a promoted server has.
	KeepTimeline Name = "keep-timeline"
	// StopBetweenSessions ends at once when it is stopped while no session runs.
	StopBetweenSessions Name = "stop-between-sessions"
	// RetryAtOnce takes a refusal of the checkpoint store, and the opening of a
	// stream, for a reason to try again without a pause.
	RetryAtOnce Name = "retry-at-once"
	// TrailAcrossConnections takes the part of a transaction that came by before a
	// connection ended for one that has come by whole.
	TrailAcrossConnections Name = "trail-across-connections"
	// ConfirmUnread confirms what is stored before the session has read it.
	ConfirmUnread Name = "confirm-unread"
)

// All lists the ways.
func All() []Name {
	return []Name{
		ConfirmBeforeAcknowledgement, ConfirmBeforeSave, DropOnRetry, ReorderOnRetry,
		FilterByRowLSN, SkipReadBack, NoFence, SwallowDecodeError,
	}
}

// OfModel lists the ways that the model of the pipeline notices.
func OfModel() []Name {
	return []Name{OutliveHistory, KeepTimeline, StopBetweenSessions, RetryAtOnce, TrailAcrossConnections, ConfirmUnread}
}
