package takeover

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/debezium"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/predecessor"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// checkServer makes sure that a streamer could run, and completes the survey.
func (t *takeOver) checkServer(ctx context.Context, s *predecessor.Survey) (err error) {
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	c := s.Control.Config()
	if s.Server, err = s.Control.Identify(ctx); err != nil {
		return err
	}
	tables, err := s.Control.DescribeTables(ctx)
	if err != nil {
		return err
	}
	s.Mappings = site.LocatedMappings(t.cfg, tables, s.Server)
	if err := replication.Refusal(slices.Concat(
		replication.CheckServer(s.Server, c), replication.CheckPublication(s.Server, c), replication.CheckTables(tables, c),
	)); err != nil || !t.poller {
		return err
	}
	s.Table, s.Query = &tables[0], site.SnapshotQuery(t.cfg)
	_, findings, err := s.Control.PlanSnapshot(ctx, *s.Table, s.Query)
	if err != nil {
		return err
	}
	return replication.Refusal(findings)
}

// checkConnector compares the connector's configuration with the streamer's. It
// returns what differs for consumers.
func (command Debezium) checkConnector(cfg config.Config) (remarks []string, err error) {
	if command.Connector == "" {
		return nil, nil
	}
	content, err := os.ReadFile(command.Connector)
	if err != nil {
		return nil, failure.Misconfigure(fmt.Errorf("--connector: %w", err))
	}
	connectors, err := debezium.Read([]debezium.File{{Name: command.Connector, Content: content}})
	if err != nil {
		return nil, err
	}
	connector, err := debezium.Choose(connectors, "")
	if err != nil {
		return nil, err
	}
	if slot := connector.Slot(); slot != cfg.Postgres.Slot {
		return nil, failure.Misconfigure(failure.Advise(
			fmt.Errorf("the connector reads slot %q, and postgres.slot is %q", slot, cfg.Postgres.Slot),
			"set postgres.slot to %s and postgres.publication to that of the connector, as `streamer import debezium` does", slot))
	}
	if column := connector.EventTimestamp(); column != "" && command.Margin == defaultMargin {
		return nil, failure.Misconfigure(failure.Advise(
			fmt.Errorf("the connector takes the time of records from column %s, which may be any time before the commit", column),
			"say with --margin how far before the commit it can be"))
	}
	result, err := connector.Translate()
	if err != nil {
		return nil, err
	}
	for _, e := range result.Report.NoEquivalent {
		remarks = append(remarks, fmt.Sprintf("%s: %s", e.Option, e.Says))
	}
	for _, e := range result.Report.Different {
		remarks = append(remarks, fmt.Sprintf("%s: %s", e.Option, e.Says))
	}
	return remarks, nil
}

// defaultMargin is that of Options.Margin.
const defaultMargin = 5 * time.Minute

// fence keeps the former publisher out of the topics.
func (t *takeOver) fence(ctx context.Context, client *kafka.Client) error {
	if t.FenceWith == "" && t.FenceWhom == "" {
		return nil
	}
	known, prefixes, err := predecessor.OutputTopics(site.Rules(t.cfg))
	if err != nil {
		return err
	}
	if t.FenceWhom != "" {
		if err := client.DenyWrites(t.FenceWhom, known, prefixes); err != nil {
			return err
		}
		fmt.Fprintf(t.std.Err, "fenced: %s may not write to the topics any more (an ACL of type DENY)\n", t.FenceWhom)
	}
	if t.FenceWith != "" {
		all, err := client.Topics("")
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(topic string) bool { return !kafka.IsAmong(topic, known, prefixes) })
		if err := client.FenceOut(ctx, t.FenceWith, all); err != nil {
			return err
		}
		fmt.Fprintf(t.std.Err, "fenced: a producer with transactional id %s can write nothing any more\n", t.FenceWith)
	}
	return nil
}

const (
	look      = 500 * time.Millisecond
	quiet     = time.Minute
	withFence = 2 * time.Second
	sayEvery  = 10 * time.Second
)

// settle waits until nothing of the former publisher has arrived for a while.
func (t *takeOver) settle(ctx context.Context, s *predecessor.Survey) error {
	patience := quiet
	switch {
	case t.Wait != nil:
		patience = *t.Wait
	case t.FenceWith != "" || t.FenceWhom != "":
		patience = withFence
	}
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	last, said := time.Now(), time.Time{}
	for left := patience; left > 0; left = patience - time.Since(last) {
		if time.Since(said) >= sayEvery {
			said = time.Now()
			fmt.Fprintf(t.std.Err, "waiting for requests of the former publisher that are still on their way: %s left\n", left.Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		found, err := s.Read(ctx)
		if err != nil {
			return err
		}
		if found > 0 {
			last = time.Now()
			t.report.ArrivedLate += found
		}
	}
	return s.Unused(ctx)
}
