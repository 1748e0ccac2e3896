package main

import (
	"context"
	"flag"

	"github.com/outboxstream/streamer/examples/patterns/choreography"
	"github.com/outboxstream/streamer/examples/patterns/eventstore"
	"github.com/outboxstream/streamer/examples/patterns/projection"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

var programs = map[string]program{
	"choreography-customers": load(choreography.Customers),
	"choreography-orders":    plain(choreography.Orders),
	"choreography-payments":  plain(choreography.Payments),
	"choreography-stock":     plain(choreography.Stock),
	"eventstore-teller":      teller,
	"projection-shop":        load(projection.Shop),
	"projection-projector":   projector,
}

func projector(flags *flag.FlagSet) func(ctx context.Context, s *service.Service) error {
	name := flags.String("name", "statements", "what the inbox calls this projector")
	schema := flags.String("schema", "live", "where the read model is")
	topic := flags.String("topic", projection.Topic, "what to read")
	return func(ctx context.Context, s *service.Service) error {
		return projection.Project(ctx, s, *name, *schema, *topic)
	}
}

func teller(flags *flag.FlagSet) func(ctx context.Context, s *service.Service) error {
	name := flags.String("name", "teller", "who gives the commands")
	return load(func(ctx context.Context, s *service.Service, n int, rate float64) error {
		return eventstore.Teller(ctx, s, *name, n, rate)
	})(flags)
}
