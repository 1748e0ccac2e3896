package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Exit codes besides 0. The shell's convention for Ctrl-C is 128 + SIGINT.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	// SIGPIPE is included so that "make demo | head" cleans up as well. The first
	// signal cleans up, a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(exitUsage)
	case interrupted && !errors.Is(err, errCleanUp):
		fmt.Fprintln(os.Stderr, "\ndemo: interrupted; servers and files are removed")
		os.Exit(exitInterrupted)
	default:
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(exitFailed)
	}
}

// errUsage is a mistake on the command line, which the flag set has already
// explained.
var errUsage = errors.New("wrong usage")

// options are what the command line can change.
type options struct {
	broker      string
	duration    time.Duration
	rate        float64
	connections int
}

func run(ctx context.Context, args []string, out, usage io.Writer) error {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&o.broker, "broker", brokerAuto, "the Kafka to use: `auto`, kafka (never the fake) or fake (never a real one)")
	flags.DurationVar(&o.duration, "duration", 10*time.Second, "how long the shop is open")
	flags.Float64Var(&o.rate, "rate", 600, "transactions of the shop per second")
	flags.IntVar(&o.connections, "connections", 4, "connections of the shop")
	if err := flags.Parse(args); err != nil {
		return errors.Join(errUsage, err)
	}
	if err := o.validate(); err != nil {
		fmt.Fprintln(usage, "demo:", err)
		return errors.Join(errUsage, err)
	}
	return show(ctx, o, newScreen(out))
}

func (o options) validate() error {
	switch {
	case o.broker != brokerAuto && o.broker != brokerKafka && o.broker != brokerFake:
		return fmt.Errorf("-broker %s: must be auto, kafka or fake", o.broker)
	case o.duration < time.Second:
		return fmt.Errorf("-duration %v: must be at least 1s", o.duration)
	case o.rate <= 0:
		return fmt.Errorf("-rate %g: must be above 0", o.rate)
	case o.connections < 1:
		return fmt.Errorf("-connections %d: must be at least 1", o.connections)
	}
	return nil
}
