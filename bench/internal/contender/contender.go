// Package contender knows how each program of the comparison is configured and
// started. The measurements are the same for all programs and are made
// elsewhere.
package contender

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
)

// Kind is what a contender does with a workload.
type Kind int

// Kinds of contenders.
const (
	Relay    Kind = iota // from a slot into Kafka
	Reader               // from a slot into nothing; ends at the end of the WAL
	Producer             // from nothing into Kafka; ends when all is acknowledged
	Writer               // into the outbox and into Kafka, without a relay; has no process
)

// ErrMissing is wrapped by errors that say that this machine cannot run a
// contender. The contender is left out, with the reason.
var ErrMissing = errors.New("not available")

// Task is a contender's task: one slot, one set of topics.
type Task struct {
	Folder      string // exclusive and empty
	DSN         string // over TCP, of the database of the workload
	Port        int    // of the server on 127.0.0.1
	Database    string
	Slot        string
	Publication string
	End         string // LSN after the last transaction; empty for a steady workload
	Brokers     []string
	Prefix      string   // a topic's name is this and the aggregate type
	Topics      []string // existing and empty
	Rows        int64
	Payload     int // approximate size of each payload, in bytes
	Types       int
}

// LogFile is where the contender's output goes.
func (t Task) LogFile() string { return filepath.Join(t.Folder, "log") }

// Internal are topics that a contender may make for itself.
func (t Task) Internal() []string {
	return []string{t.Prefix + "connect-configs", t.Prefix + "connect-offsets", t.Prefix + "connect-status"}
}

// Contender is one program in one configuration.
type Contender interface {
	Name() string
	// About is a sentence for the report.
	About() string
	Kind() Kind
	// Command prepares everything, which is not measured, and returns the command
	// whose process is measured.
	Command(ctx context.Context, t Task) (*exec.Cmd, error)
}

// Verifier is a contender that can compare the outbox with the topics.
type Verifier interface {
	// Verify returns a summary of the findings. It is called after the contender
	// has been stopped, and before its slot is dropped.
	Verify(ctx context.Context, t Task) (outcome string, err error)
}

// Transactor is a contender whose events may be in transactions. Its consumers
// have to read with read_committed.
type Transactor interface {
	Transactional() bool
}

// Submitter is a contender whose process may wait for its task.
type Submitter interface {
	// Submit gives the task to the running process. ended is closed when the
	// process has ended.
	Submit(ctx context.Context, t Task, ended <-chan struct{}) error
}

// Metered is a contender that reports how many objects it has allocated.
type Metered interface {
	// Allocations returns the number since its process started.
	Allocations(ctx context.Context, t Task) (int64, error)
}

// Programs are the binaries built for the run.
type Programs struct {
	Folder string
}

// Of returns the path of a program by its name.
func (p Programs) Of(name string) string { return filepath.Join(p.Folder, name) }
