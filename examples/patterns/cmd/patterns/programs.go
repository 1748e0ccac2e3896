package main

import (
	"context"
	"flag"
	"time"

	"github.com/outboxstream/streamer/examples/patterns/choreography"
	"github.com/outboxstream/streamer/examples/patterns/eventstore"
	"github.com/outboxstream/streamer/examples/patterns/orchestration"
	"github.com/outboxstream/streamer/examples/patterns/projection"
	"github.com/outboxstream/streamer/examples/patterns/relay"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

var programs = map[string]program{
	"choreography-customers":  load(choreography.Customers),
	"choreography-orders":     plain(choreography.Orders),
	"choreography-payments":   plain(choreography.Payments),
	"choreography-stock":      plain(choreography.Stock),
	"eventstore-teller":       teller,
	"orchestration-customers": patient(orchestration.Customers),
	"orchestration-orchestrator": patient(func(ctx context.Context, s *service.Service, _ int, _ float64, patience time.Duration) error {
		return orchestration.Orchestrate(ctx, s, patience)
	}), // it takes no load
	"orchestration-payments": plain(orchestration.Payments),
	"orchestration-stock":    plain(orchestration.Stock),
	"relay-source":           load(relay.Source),
	"relay-nats":             to(relay.ToNATS, "nats://127.0.0.1:4222"),
	"relay-rabbitmq":         to(relay.ToRabbitMQ, "amqp://127.0.0.1:5672"),
	"relay-receiver":         to(relay.Receive, "amqp://127.0.0.1:5672"),
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

// to is a service with another broker.
func to(run func(ctx context.Context, s *service.Service, server string) error, usual string) program {
	return func(flags *flag.FlagSet) func(context.Context, *service.Service) error {
		server := flags.String("server", usual, "`URL` of the other broker")
		return func(ctx context.Context, s *service.Service) error { return run(ctx, s, *server) }
	}
}

// patient is a program with a deadline for each step.
func patient(run func(ctx context.Context, s *service.Service, n int, rate float64, patience time.Duration) error) program {
	return func(flags *flag.FlagSet) func(context.Context, *service.Service) error {
		patience := flags.Duration("patience", 10*time.Second, "how long a step may take")
		return load(func(ctx context.Context, s *service.Service, n int, rate float64) error {
			return run(ctx, s, n, rate, *patience)
		})(flags)
	}
}
