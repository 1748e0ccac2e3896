package main

import "github.com/outboxstream/streamer/checkpoint"

// resumeStatus is what a start from the stored checkpoint does about events that
// were published after it.
type resumeStatus struct {
	ExactlyOnce bool   `json:"exactly_once"`
	Reason      string `json:"reason,omitempty"` // why not
}

func resumeOf(record checkpoint.Record) *resumeStatus {
	return &resumeStatus{ExactlyOnce: record.AtLeastOnce == "", Reason: record.AtLeastOnce}
}

func (r *resumeStatus) String() string {
	if r.ExactlyOnce {
		return "exactly once"
	}
	return "at least once (" + r.Reason + ")"
}
