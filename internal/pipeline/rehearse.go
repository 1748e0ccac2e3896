package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// Rehearsal is what a replay would publish.
type Rehearsal struct {
	Events, Bytes int64
	Topics        map[string]int64 // events
	// First and Last are when the first and the last event were committed.
	First, Last time.Time
	// Unpublishable counts rows that cannot be published.
	Unpublishable int64
}

// Rehearse reads what a replay would read, from a temporary copy of the rewind
// slot, and publishes nothing. server is the server of the slot.
func (p *Pipeline) Rehearse(
	ctx context.Context, server replication.Server, slot replication.Slot, tables []replication.Table,
) (Rehearsal, error) {
	config, err := p.replication(ctx)
	if err != nil {
		return Rehearsal{}, err
	}
	config.Slot = slot.Name
	slot.Active = false // a client that moves the slot does not disturb a copy
	reader, err := replication.OpenCatchUp(ctx, config, server, slot, p.config.Replay.From)
	if err != nil {
		return Rehearsal{}, err
	}
	defer reader.Close()
	defer context.AfterFunc(ctx, reader.Wake)()
	rules := p.config.Rules
	rules.Database, rules.StreamID = server.Database, p.config.Replay.StreamID
	routes, err := router.NewRouter(rules)
	if err != nil {
		return Rehearsal{}, err
	}
	h := &rehearsal{
		replay: p.config.Replay, routes: routes, decoder: decoder.New(decoder.Located(p.config.Mappings, tables, server.Encoding)...),
		Rehearsal: Rehearsal{Topics: map[string]int64{}},
	}
	for ctx.Err() == nil {
		m, err := reader.Next()
		if err == nil {
			err = h.message(m)
		}
		if err == nil && m.Kind == replication.None {
			err = reader.Wait(time.Now().Add(time.Second))
		}
		if errors.Is(err, errComplete) {
			return h.Rehearsal, nil
		}
		if err != nil {
			return h.Rehearsal, err
		}
	}
	return h.Rehearsal, context.Cause(ctx)
}

type rehearsal struct {
	Rehearsal
	replay  *Replay
	routes  *router.Router
	decoder *decoder.Decoder
}

func (h *rehearsal) message(m replication.Message) error {
	switch m.Kind {
	case replication.Keepalive:
		if !h.decoder.InTransaction() && m.LSN >= h.replay.Until {
			return errComplete
		}
	case replication.Data:
		kind, err := h.decoder.Decode(m.Data)
		if _, poison := errors.AsType[*decoder.PoisonError](err); poison {
			h.Unpublishable++
			return nil
		}
		if err != nil {
			return err
		}
		switch kind {
		case decoder.Begin:
			if h.decoder.Event().Position.Commit >= h.replay.Until {
				return errComplete
			}
		case decoder.Row:
			return h.row(h.decoder.Event())
		default:
		}
	default:
	}
	return nil
}

func (h *rehearsal) row(e *decoder.Event) error {
	if h.replay.passed(e) {
		return errComplete
	}
	if !h.replay.wants(e, h.routes) {
		return nil
	}
	d, err := h.routes.Route(e)
	if err != nil {
		h.Unpublishable++
		return nil //nolint:nilerr // counted
	}
	at := time.UnixMicro(e.CommitTime).UTC()
	if h.Events == 0 {
		h.First = at
	}
	h.Last = at
	h.Events++
	h.Bytes += int64(len(e.Data))
	h.Topics[string(d.Topic)]++
	return nil
}
