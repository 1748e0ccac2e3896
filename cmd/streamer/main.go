// Command streamer publishes the rows of a PostgreSQL outbox table to Kafka as
// CloudEvents.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/deadletter"
	"github.com/outboxstream/streamer/cmd/streamer/internal/doctor"
	"github.com/outboxstream/streamer/cmd/streamer/internal/find"
	"github.com/outboxstream/streamer/cmd/streamer/internal/giveback"
	"github.com/outboxstream/streamer/cmd/streamer/internal/importer"
	"github.com/outboxstream/streamer/cmd/streamer/internal/manual"
	"github.com/outboxstream/streamer/cmd/streamer/internal/preview"
	"github.com/outboxstream/streamer/cmd/streamer/internal/replay"
	"github.com/outboxstream/streamer/cmd/streamer/internal/scaffold"
	"github.com/outboxstream/streamer/cmd/streamer/internal/setup"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
	"github.com/outboxstream/streamer/cmd/streamer/internal/takeover"
	"github.com/outboxstream/streamer/cmd/streamer/internal/verification"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pipeline"
)

// Exit codes. A supervisor should restart after 1 and 4. After 2 and 3 the
// operator has to act.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3
	exitDrain   = 4
)

// cli is the command line. Every configuration key can be set with --set.
type cli struct {
	Config string   `short:"c" placeholder:"FILE" help:"Configuration file (YAML or JSON). Default: ./streamer.yaml, if it exists." env:"STREAMER_CONFIG"`
	Set    []string `short:"s" placeholder:"KEY=VALUE" sep:"none" help:"Set a configuration key, as in --set kafka.brokers=host:9092. Overrides environment and file."`

	Init        scaffold.Command     `cmd:"" help:"Look at a database and write the configuration for its outbox table."`
	Import      importer.Command     `cmd:"" help:"Translate the configuration of another program, such as Debezium."`
	TakeOver    takeover.Command     `cmd:"" name:"take-over" help:"Go on where another publisher of the outbox has stopped."`
	GiveBack    giveback.Command     `cmd:"" name:"give-back" help:"Let another publisher of the outbox go on where the streamer has stopped."`
	Run         runCommand           `cmd:"" help:"Stream until stopped."`
	Setup       setup.Command        `cmd:"" help:"Create what is missing: publication, slot, topics."`
	Doctor      doctor.Command       `cmd:"" help:"Check everything that can be wrong, with remedies."`
	Status      status.Command       `cmd:"" help:"Show the slot, the checkpoint and what a running streamer is doing."`
	Preview     preview.Command      `cmd:"" help:"Show the rows that wait in the slot as they would be published, without consuming them."`
	Tail        tailCommand          `cmd:"" help:"Follow the CloudEvents in Kafka."`
	Find        find.Command         `cmd:"" help:"Say where an event is: in the table, the slot, Kafka, the dead letters, and for each consumer group."`
	Verify      verification.Command `cmd:"" help:"Compare the outbox table with Kafka: missing, repeated, altered, out of order."`
	Replay      replay.Command       `cmd:"" help:"Publish part of the past again, alongside the running streamer."`
	DeadLetters deadletter.Command   `cmd:"" name:"dead-letters" help:"Show rows that could not be published, and retry or drop them."`
	Checkpoint  checkpointCommand    `cmd:"" help:"Show or replace the stored position."`
	ShowConfig  configCommand        `cmd:"" name:"config" help:"Check the configuration and show the effective values with their origins."`
	Health      healthCommand        `cmd:"" hidden:"" help:"Ask the running streamer whether it is ready."`
	Completion  manual.Completion    `cmd:"" help:"Print the script that completes commands in a shell."`
	Complete    manual.Complete      `cmd:"" hidden:"" help:"Print what can stand at the cursor."`
	Man         manual.Page          `cmd:"" help:"Print the manual page."`
	Version     versionCommand       `cmd:"" help:"Print the version."`
}

// environment is what the process gives to the program, so that tests can run
// it without a process.
type environment struct {
	stdin          io.Reader // nil where no answer can be given
	stdout, stderr io.Writer
	environ        []string
}

func main() {
	os.Exit(run(os.Args[1:], environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}))
}

// run is the program: it takes the arguments and returns the exit code.
func run(arguments []string, env environment) int {
	// The first signal stops the program cleanly, a second one stops it at
	// once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	var c cli
	leave := -1
	parser, err := kong.New(&c, kong.Name("streamer"),
		kong.Description("Publishes the rows of a PostgreSQL outbox table to Kafka as CloudEvents, in commit order, keyed by aggregate ID."),
		kong.UsageOnError(), kong.Writers(env.stdout, env.stderr), kong.Exit(func(code int) { leave = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(env.stderr, "streamer:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(arguments)
	if leave >= 0 { // --help has been printed
		return leave
	}
	if err != nil {
		report(env.stderr, err)
		return exitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(site.Configuration(func() (*config.Loaded, error) { return c.load(env.environ) }),
		site.Given{File: c.Config, Environ: env.environ, Set: c.Set}, console.Streams{In: env.stdin, Out: env.stdout, Err: env.stderr})
	report(env.stderr, err)
	return exitCode(err)
}

// report prints each problem and, on a line of its own, its remedy.
func report(w io.Writer, err error) {
	for _, r := range failure.Reports(err) {
		fmt.Fprintln(w, "streamer:", r.Problem)
		if r.Fix != "" {
			fmt.Fprintln(w, "fix:", r.Fix)
		}
	}
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[*pipeline.DrainError](err); ok {
		return exitDrain
	}
	switch failure.ClassOf(err) {
	case failure.Misconfigured:
		return exitUsage
	case failure.Refused:
		return exitRefused
	default:
		return exitFailed
	}
}

// load reads the configuration. All commands use it.
func (c *cli) load(environ []string) (*config.Loaded, error) {
	flags, err := site.Given{Set: c.Set}.Flags()
	if err != nil {
		return nil, err
	}
	file := c.Config
	if file == "" {
		file = config.DefaultFile
	}
	loaded, err := config.Load(config.Options{File: file, FileExplicit: c.Config != "", Environ: environ, Flags: flags})
	return loaded, failure.Misconfigure(err)
}
