package deadletter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/router"
)

// resolving is what retry and drop have in common.
type resolving struct {
	ID    []string `arg:"" optional:"" help:"Partition and offset (0:17), event ID or position."`
	All   bool     `help:"All open dead letters of the configured slot."`
	Class string   `placeholder:"CLASS" help:"With --all: only those of this class, such as too_large."`
	Yes   bool     `short:"y" help:"Do not ask for confirmation."`
	By    string   `placeholder:"NAME" help:"Name to record with the decision. Default: user and host."`
}

func (r resolving) choice() choice { return choice{ids: r.ID, all: r.All, class: r.Class} }

// Validate is called by kong.
func (r resolving) Validate() error { return r.choice().validate() }

// resolution is the record of a decision.
func (r resolving) resolution(verb router.Verb) router.Resolution {
	by := r.By
	if by == "" {
		by = whoami()
	}
	return router.Resolution{Verb: verb, By: by, At: time.Now().UTC()}
}

// whoami names the user and host for later readers of the record.
func whoami() string {
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// confirm asks for confirmation unless told not to. Where no answer can be
// given, the answer is no.
func (r resolving) confirm(std console.Streams, question string) error {
	if r.Yes {
		return nil
	}
	fmt.Fprintf(std.Out, "%s Type yes to continue: ", question)
	if std.In != nil {
		answer, _ := bufio.NewReader(std.In).ReadString('\n') // an early end is not a yes
		if strings.TrimSpace(answer) == "yes" {
			return nil
		}
	}
	fmt.Fprintln(std.Out)
	return failure.Refuse(failure.Advise(errors.New("nothing was changed"), "answer yes, or add --yes"))
}

type dropCommand struct {
	resolving
	Timeout time.Duration `default:"60s" help:"How long Kafka may take for each dead letter."`
}

// Help is shown by streamer dead-letters drop --help.
func (dropCommand) Help() string {
	return `Marks these rows as never to be published. The decision is recorded in the dead letter
topic; the dead letters themselves stay there as long as the topic keeps them. The
command asks before it does anything.

Examples:
  streamer dead-letters drop 0:17
  streamer dead-letters drop --all --class invalid_row --yes`
}

// Run is the command.
func (command dropCommand) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	box, err := openLetters(ctx, load, std)
	if err != nil {
		return err
	}
	defer box.close()
	var streams []string
	if command.All { // letters named by ID may be of a slot that no longer exists
		if _, streams, err = identifyStreams(ctx, box.cfg); err != nil {
			return err
		}
	}
	chosen, err := box.choose(command.choice(), streams)
	if err != nil || len(chosen) == 0 {
		return box.nothing(err)
	}
	for _, l := range chosen {
		fmt.Fprintf(std.Out, "%s  event %q at %s: %s\n", letterID(l), console.Printable(l.EventID), l.Position, l.Class)
	}
	if err := command.confirm(std, console.Counted(len(chosen), "dead letter")+" will be marked as never to be published."); err != nil {
		return err
	}
	writer, err := box.writer(ctx, "")
	if err != nil {
		return err
	}
	defer writer.Close()
	for _, l := range chosen {
		opened, _, err := l.Open(ctx, box.client)
		if err != nil {
			return err
		}
		if err := box.resolve(ctx, writer, l, opened.Key, command.resolution(router.Dropped), command.Timeout); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "dropped  %s\n", letterID(l))
	}
	return nil
}

// nothing says that there is nothing to do, unless an error is the reason.
func (box *letterBox) nothing(err error) error {
	if err == nil {
		fmt.Fprintf(box.std.Err, "streamer: no open dead letters in topic %q match\n", box.topic)
	}
	return err
}

// resolve records a decision under the key of the letter.
func (box *letterBox) resolve(ctx context.Context, w *router.Writer,
	l router.Letter, key []byte, r router.Resolution, timeout time.Duration,
) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := w.Resolve(ctx, l, key, r); err != nil {
		return fmt.Errorf("record that dead letter %s was %s: %w", letterID(l), r.Verb, err)
	}
	return nil
}
