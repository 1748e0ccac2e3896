package contender

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Raw is a limit: one part of the work without the rest.
type Raw struct {
	name, about string
	kind        Kind
	program     string
	arguments   func(t Task) []string
}

// Names of limits to which targets refer.
const (
	RawReceive = "raw-recvlogical"
	RawCopy    = "raw-copy"
	RawProduce = "raw-produce"
	RawWrite   = "raw-dual-write"
	// RawRequests is for workloads with many partitions.
	RawRequests = "raw-produce-requests"
)

// Raws returns the limits. bin is the folder of PostgreSQL's programs.
func Raws(programs Programs, bin string) []Raw {
	slot := func(t Task) []string {
		return []string{"-dsn", t.DSN, "-slot", t.Slot, "-publication", t.Publication, "-end", t.End}
	}
	own := programs.Of("raw")
	raws := []Raw{
		{
			name: RawCopy, kind: Reader, program: own,
			about: "SQL decoding through COPY into nothing: " +
				"one call of pg_logical_slot_peek_binary_changes over the whole WAL",
			arguments: func(t Task) []string { return append([]string{"copy"}, slot(t)...) },
		},
		{
			name: RawCopy + "-calls", kind: Reader, program: own,
			about: "SQL decoding through COPY into nothing: " +
				"pg_logical_slot_get_binary_changes, 300,000 messages a call",
			arguments: func(t Task) []string { return append([]string{"copy", "-changes", "300000"}, slot(t)...) },
		},
		{
			name: RawProduce, kind: Producer, program: own,
			about: "records of the same size produced with plain sarama " +
				"(AsyncProducer, idempotent, acks=all, lz4)",
			arguments: func(t Task) []string { return append([]string{"produce"}, produceArguments(t)...) },
		},
		{
			name: RawProduce + "-batches", kind: Producer, program: own,
			about: "records of the same size in ready-made batches of up to 1,000, " +
				"one request in flight for each partition (sarama's client, acks=all, lz4)",
			arguments: func(t Task) []string { return append([]string{"batches"}, produceArguments(t)...) },
		},
	}
	requests := Raw{
		name: RawRequests, kind: Producer, program: own,
		about: "records of the same size in requests of the streamer's size: 6 records for each partition, " +
			"five requests in flight on one connection (sarama's client, acks=all, lz4)",
		arguments: func(t Task) []string { return append([]string{"requests"}, produceArguments(t)...) },
	}
	write := Raw{
		name: RawWrite,
		kind: Writer,
		about: "steady rates only: the harness inserts, commits, and produces the record itself; " +
			"the least that an insert and a record take on an equally busy machine",
	}
	return append(raws, requests, receive(programs, bin, slot), write)
}

func produceArguments(t Task) []string {
	return []string{
		"-brokers", strings.Join(t.Brokers, ","), "-prefix", t.Prefix, "-types", strconv.Itoa(t.Types),
		"-rows", strconv.FormatInt(t.Rows, 10), "-payload", strconv.Itoa(t.Payload),
	}
}

// Produce writes the records of a task into Kafka, unmeasured.
func Produce(ctx context.Context, programs Programs, t Task) error {
	return run(exec.CommandContext(ctx, programs.Of("raw"), append([]string{"produce"}, produceArguments(t)...)...))
}

// receive is pg_recvlogical, which downloaded binaries may lack, or the
// benchmark's own plain reader.
func receive(programs Programs, bin string, slot func(Task) []string) Raw {
	r := Raw{name: RawReceive, kind: Reader}
	program, err := exec.LookPath(filepath.Join(bin, "pg_recvlogical"))
	if err != nil {
		program, err = exec.LookPath("pg_recvlogical")
	}
	if err != nil {
		r.program, r.about = programs.Of("raw"), "a plain reader of the stream, into nothing (there is no pg_recvlogical here)"
		r.arguments = func(t Task) []string { return append([]string{"receive"}, slot(t)...) }
		return r
	}
	r.program, r.about = program, "pg_recvlogical into /dev/null, over TCP"
	r.arguments = func(t Task) []string {
		return []string{
			"--dbname", t.DSN, "--slot", t.Slot, "--start", "--no-loop", "--file", "/dev/null", "--endpos", t.End,
			"--option", "proto_version=1", "--option", "publication_names=" + t.Publication,
		}
	}
	return r
}

// Name of the contender.
func (r Raw) Name() string { return r.name }

// About describes the remaining work.
func (r Raw) About() string { return r.about }

// Kind is Reader, Producer or Writer.
func (r Raw) Kind() Kind { return r.kind }

// Command needs no preparation.
func (r Raw) Command(ctx context.Context, t Task) (*exec.Cmd, error) {
	if r.kind == Writer {
		return nil, fmt.Errorf("%s: is no process", r.name)
	}
	if r.kind == Reader && t.End == "" {
		return nil, fmt.Errorf("%s: no end of the log", r.name)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), r.program, r.arguments(t)...)
	cmd.Env, cmd.Dir = environment(), t.Folder
	return cmd, nil
}
