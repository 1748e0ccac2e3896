package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
)

type runCommand struct {
	Until string `placeholder:"LSN" help:"Stop with exit code 0 once every transaction committed before LSN is published; use when changing the shard count."`
}

// Help is shown by streamer run --help.
func (runCommand) Help() string {
	return `Streams until stopped by SIGTERM or SIGINT. Then it publishes what is in flight, saves
and confirms the position, and exits with code 0. A second signal stops it at once.

Example:
  streamer run --config streamer.yaml`
}

// Run is the command.
func (command runCommand) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	cfg := loaded.Config
	journal := ops.NewJournal()
	log := console.NewLogger(std.Err, cfg.Log, journal)
	site.LimitMemory(cfg, site.StreamMemory)
	metrics := ops.NewMetrics(console.Version())
	watching, export, err := exporting(ctx, cfg, log, metrics)
	if err != nil {
		return err
	}
	defer export()
	run := site.PipelineConfig(cfg, log, watching)
	if command.Until != "" {
		if run.Until, err = replication.ParseLSN(command.Until); err != nil {
			return failure.Misconfigure(fmt.Errorf("--until: %w", err))
		}
	}
	p, err := pipeline.New(run)
	if err != nil {
		return err
	}
	metrics.WatchLag(p.Lag)
	closeEndpoint, err := openEndpoint(ctx, cfg, log, metrics, p, journal)
	if err != nil {
		return err
	}
	defer closeEndpoint()
	log.Info("starting", "version", console.Version(), "slot", cfg.Postgres.Slot, "tables", tableNames(cfg),
		"brokers", cfg.Kafka.Brokers, "topic", cfg.Kafka.Topic, "checkpoint_store", cfg.Checkpoint.Store, "http", cfg.HTTP.Listen)
	if err := supervised(ctx, p); err != nil {
		if console.LogsJSON(std.Err, cfg.Log) { // the last lines are for the operator, this is for programs
			for _, r := range failure.Reports(err) {
				log.Error("streamer ends with an error", "err", r.Problem, "fix", r.Fix, "exit_code", exitCode(err))
			}
		}
		return err
	}
	log.Info("stopped")
	return nil
}

func tableNames(cfg config.Config) (names []string) {
	for _, o := range cfg.Tables() {
		names = append(names, o.Name())
	}
	return names
}

// supervised runs the pipeline and notifies systemd if systemd started the
// process.
func supervised(ctx context.Context, p *pipeline.Pipeline) error {
	telling, stop := context.WithCancel(ctx)
	var told sync.WaitGroup
	told.Go(func() { ops.NotifySupervisor(telling, p.Status) })
	defer told.Wait()
	defer stop()
	return p.Run(ctx)
}

type versionCommand struct{}

// Help is shown by streamer version --help.
func (versionCommand) Help() string {
	return `Example:
  streamer version`
}

// Run is the command.
func (versionCommand) Run(std console.Streams) error {
	_, err := fmt.Fprintln(std.Out, "streamer", console.Version())
	return err
}
