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

// All lists the ways.
func All() []Name {
	return []Name{
		ConfirmBeforeAcknowledgement, ConfirmBeforeSave, DropOnRetry, ReorderOnRetry,
		FilterByRowLSN, SkipReadBack, NoFence, SwallowDecodeError,
	}
}
