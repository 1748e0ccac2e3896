package status

import "github.com/outboxstream/streamer/checkpoint"

// Resume says what a start from the stored checkpoint does about events that
// were published after it.
type Resume struct {
	ExactlyOnce bool   `json:"exactly_once"`
	Reason      string `json:"reason,omitempty"` // why not
}

// ResumeOf reads a Resume from a checkpoint.
func ResumeOf(record checkpoint.Record) *Resume {
	return &Resume{ExactlyOnce: record.AtLeastOnce == "", Reason: record.AtLeastOnce}
}

func (r *Resume) String() string {
	if r.ExactlyOnce {
		return "exactly once"
	}
	return "at least once (" + r.Reason + ")"
}
