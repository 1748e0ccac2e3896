// Raw implements the limits with which the benchmark compares: reading a slot
// into nothing, and producing into Kafka from nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "raw:", err)
		os.Exit(1)
	}
}

// options are the options of all limits.
type options struct {
	dsn, slot, publication, end string
	changes                     int
	brokers, prefix             string
	types, payload              int
	rows                        int64
	batch                       int
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("no command: use copy, receive, produce, batches or requests")
	}
	var o options
	flags := flag.NewFlagSet("raw "+args[0], flag.ContinueOnError)
	flags.StringVar(&o.dsn, "dsn", "", "database")
	flags.StringVar(&o.slot, "slot", "", "replication slot")
	flags.StringVar(&o.publication, "publication", "", "publication")
	flags.StringVar(&o.end, "end", "", "`LSN` to stop at")
	flags.IntVar(&o.changes, "changes", 0, "messages per call of copy, which consumes them from the slot; 0: all, and they stay in the slot")
	flags.StringVar(&o.brokers, "brokers", "", "Kafka brokers, separated by commas")
	flags.StringVar(&o.prefix, "prefix", "", "prefix of the topics")
	flags.IntVar(&o.types, "types", 1, "number of topics")
	flags.IntVar(&o.payload, "payload", 0, "bytes of each payload")
	flags.Int64Var(&o.rows, "rows", 0, "records to produce")
	flags.IntVar(&o.batch, "batch", 6, "records of each batch of requests")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "copy":
		return copySlot(ctx, o)
	case "receive":
		return receive(ctx, o)
	case "produce":
		return produce(ctx, o)
	case "batches":
		return produceBatches(ctx, o)
	case "requests":
		return produceRequests(ctx, o)
	}
	return fmt.Errorf("unknown command %q: use copy, receive, produce, batches or requests", args[0])
}
