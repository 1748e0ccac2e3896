package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// letterBox is the dead letter topic as it was when it was opened.
type letterBox struct {
	cfg     config.Config
	std     console.Streams
	client  *kafka.Client
	topic   string
	letters []router.Letter
}

// openLetters reads the topic. The topic may hold rows of several streams.
func openLetters(ctx context.Context, load site.Configuration, std console.Streams) (*letterBox, error) {
	loaded, err := load()
	if err != nil {
		return nil, err
	}
	box := &letterBox{cfg: loaded.Config, std: std, topic: loaded.Config.Poison.Topic}
	if box.client, err = site.ConnectKafka(ctx, box.cfg); err != nil {
		return nil, err
	}
	if box.letters, err = router.Letters(ctx, box.client, box.topic, site.Rules(box.cfg)); err != nil {
		box.close()
		return nil, err
	}
	return box, nil
}

func (box *letterBox) close() { box.client.Close() }

// open lists the dead letters without a decision.
func (box *letterBox) open() []router.Letter {
	return slices.DeleteFunc(slices.Clone(box.letters), func(l router.Letter) bool { return l.Resolution != nil })
}

// find looks a dead letter up by any of its names.
func (box *letterBox) find(id string) (router.Letter, error) {
	named := slices.DeleteFunc(slices.Clone(box.letters), func(l router.Letter) bool {
		return !slices.Contains([]string{letterID(l), l.Topic + ":" + letterID(l), l.EventID, l.Position.String()}, id)
	})
	switch len(named) {
	case 0:
		return router.Letter{}, failure.Refuse(failure.Advise(
			fmt.Errorf("topic %q holds no dead letter %q", box.topic, id),
			"list the ids with `streamer dead-letters list --all`",
		))
	case 1:
		return named[0], nil
	}
	return router.Letter{}, failure.Refuse(failure.Advise(
		fmt.Errorf(
			"topic %q holds %d dead letters that match %q, for example %s and %s",
			box.topic, len(named), id, letterID(named[0]), letterID(named[1]),
		),
		"name the dead letter by partition and offset",
	))
}

// choice says which dead letters a command applies to.
type choice struct {
	ids   []string
	all   bool
	class string
}

var errNothingChosen = errors.New("name dead letters by their ids, or use --all")

func (c choice) validate() error {
	switch {
	case c.all == (len(c.ids) > 0):
		return errNothingChosen
	case c.class != "" && !c.all:
		return errors.New("--class needs --all")
	}
	return nil
}

// choose returns the chosen open dead letters in the order of the stream, so
// that those of one aggregate ID keep their order. With all, it returns only
// those of the given streams.
func (box *letterBox) choose(c choice, streams []string) ([]router.Letter, error) {
	if c.all {
		return slices.DeleteFunc(box.open(), func(l router.Letter) bool {
			return !slices.Contains(streams, l.StreamID) || c.class != "" && string(l.Class) != c.class
		}), nil
	}
	var chosen []router.Letter
	for _, id := range c.ids {
		l, err := box.find(id)
		if err != nil {
			return nil, err
		}
		if l.Resolution != nil {
			return nil, failure.Refuse(fmt.Errorf("dead letter %s was already %s", letterID(l), letterState(l)))
		}
		if !slices.Contains(chosen, l) {
			chosen = append(chosen, l)
		}
	}
	slices.SortFunc(chosen, func(a, b router.Letter) int {
		return cmp.Or(cmp.Compare(a.StreamID, b.StreamID), a.Position.Compare(b.Position))
	})
	return chosen, nil
}

// identifyStreams asks the server which streams are the configured slot's.
// There is one stream for each history that an operator has accepted.
func identifyStreams(ctx context.Context, cfg config.Config) (server replication.Server, streams []string, err error) {
	control, _, err := site.ConnectPostgres(ctx, cfg)
	if err != nil {
		return server, nil, err
	}
	defer control.Close()
	timed, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	if server, err = control.Identify(timed); err != nil {
		return server, nil, err
	}
	record, err := site.LoadCheckpoint(ctx, cfg, site.IdentityOf(server, cfg))
	if err != nil && !errors.Is(err, checkpoint.ErrNone) {
		return server, nil, err
	}
	return server, site.StreamIDs(server, cfg, record), nil
}
