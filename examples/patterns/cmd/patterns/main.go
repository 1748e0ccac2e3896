// Command patterns runs one service of an example:
//
//	patterns choreography-orders -dsn postgres://… -brokers 127.0.0.1:9092
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/outboxstream/streamer/examples/patterns/service"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "patterns:", err)
		os.Exit(1)
	}
}

// program is a service: it adds flags of its own and returns what to run.
type program func(flags *flag.FlagSet) func(ctx context.Context, s *service.Service) error

// plain is a service without flags of its own.
func plain(run func(ctx context.Context, s *service.Service) error) program {
	return func(*flag.FlagSet) func(context.Context, *service.Service) error { return run }
}

// load is a program that does something n times.
func load(run func(ctx context.Context, s *service.Service, n int, rate float64) error) program {
	return func(flags *flag.FlagSet) func(context.Context, *service.Service) error {
		n := flags.Int("n", 1000, "how many times")
		rate := flags.Float64("rate", 50, "how many times a second")
		return func(ctx context.Context, s *service.Service) error { return run(ctx, s, *n, *rate) }
	}
}

func run(ctx context.Context, arguments []string, out io.Writer) error {
	names := strings.Join(slices.Sorted(maps.Keys(programs)), ", ")
	if len(arguments) == 0 {
		return fmt.Errorf("no service named; there are %s", names)
	}
	p, known := programs[arguments[0]]
	if !known {
		return fmt.Errorf("no service %q; there are %s", arguments[0], names)
	}
	var common service.Flags
	flags := flag.NewFlagSet(arguments[0], flag.ContinueOnError)
	common.Register(flags)
	work := p(flags)
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	s, err := common.Open(ctx, slog.New(slog.NewTextHandler(out, nil)))
	if err != nil {
		return err
	}
	defer s.Pool.Close()
	if err := work(ctx, s); ctx.Err() == nil {
		return err
	}
	return nil // stopped: what was under way begins again
}
