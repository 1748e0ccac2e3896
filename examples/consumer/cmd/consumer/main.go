// Command consumer prints the CloudEvents that the streamer writes to Kafka,
// one per line, and marks those that are repeated or out of order.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/outboxstream/streamer/examples/consumer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

// errUsage is a mistake on the command line, which the flag set has already
// explained.
var errUsage = errors.New("wrong usage")

func run(ctx context.Context, args []string, out, usage io.Writer) error {
	var cfg consumer.Config
	flags := flag.NewFlagSet("consumer", flag.ContinueOnError)
	flags.SetOutput(usage)
	brokers := flags.String("brokers", "127.0.0.1:9092", "Kafka brokers, comma-separated `host:port`s")
	topics := flags.String("topics", "", "comma-separated topics (default: all that begin with --prefix)")
	flags.StringVar(&cfg.Prefix, "prefix", "outbox.event.", "read all topics that begin with this, also new ones")
	flags.StringVar(&cfg.Group, "group", "example-consumer", "consumer group")
	flags.BoolVar(&cfg.FromBeginning, "from-beginning", false, "a new group starts at the oldest record, not after the newest")
	if err := flags.Parse(args); err != nil {
		return errors.Join(errUsage, err)
	}
	cfg.Brokers = strings.Split(*brokers, ",")
	if *topics != "" {
		cfg.Topics = strings.Split(*topics, ",")
	}

	var oneAtATime sync.Mutex // partitions are read concurrently
	return consumer.Run(ctx, cfg, func(_ context.Context, d consumer.Delivery) error {
		oneAtATime.Lock()
		defer oneAtATime.Unlock()
		_, err := fmt.Fprintln(out, d.Line())
		return err
	})
}
