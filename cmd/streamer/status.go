package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
)

type statusCommand struct {
	JSON  bool `help:"Print JSON."`
	Watch bool `short:"w" help:"Repeat every two seconds until stopped."`
}

// Help is shown by streamer status --help.
func (statusCommand) Help() string {
	return `Shows the slot, the stored checkpoint and, if a streamer answers at http.listen, what
it is doing. What cannot be found out is said; if that is the slot or the checkpoint, the
exit code is not 0.

Examples:
  streamer status --watch
  streamer status --json | jq .slot.lag_bytes`
}

const (
	watchEvery = 2 * time.Second
	// compared is how many looks rates are taken over.
	compared = 10
)

// Run is the command.
func (command statusCommand) Run(ctx context.Context, c *cli, env environment) error {
	loaded, err := c.load(env)
	if err != nil {
		return err
	}
	for looks := []*status(nil); ; {
		s, err := readStatus(ctx, loaded.Config)
		if len(looks) > 0 {
			s.compare(looks[0])
		} else {
			s.compare(nil)
		}
		looks = append(looks, &s)
		looks = looks[max(0, len(looks)-compared):]
		if err := command.write(s, env); err != nil {
			return err
		}
		if !command.Watch {
			return err
		}
		timer := time.NewTimer(watchEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (command statusCommand) write(s status, env environment) error {
	switch {
	case command.JSON && command.Watch:
		return env.writeLine(s)
	case command.JSON:
		return env.writeJSON(s)
	}
	if command.Watch {
		fmt.Fprintln(env.stdout, s.At.Format(time.TimeOnly))
	}
	env.table(s.rows())
	return nil
}

// status is what can be known from outside. Parts that are not known are nil.
type status struct {
	At         time.Time        `json:"at"`
	Shard      string           `json:"shard,omitempty"` // as in 0 of 4
	Server     *serverStatus    `json:"server"`
	Slot       *slotStatus      `json:"slot"`
	Rewind     *pastStatus      `json:"rewind,omitempty"` // slot that keeps the past
	Replay     *pastStatus      `json:"replay,omitempty"` // slot of a replay that runs or was interrupted
	Checkpoint *shownCheckpoint `json:"checkpoint"`
	Resume     *resumeStatus    `json:"resume"` // as the checkpoint says
	Streamer   *streamerStatus  `json:"streamer"`
	Unknown    []string         `json:"unknown,omitempty"` // why parts are missing
}

// compare adds what only shows between two looks; before is nil at the first.
func (s *status) compare(before *status) {
	if s.Slot != nil {
		s.Slot.Outlook = s.outlook(before)
	}
	if s.Streamer != nil {
		s.Streamer.Rate = s.rate(before)
	}
}

type serverStatus struct {
	SystemID string `json:"system_identifier"`
	Timeline int32  `json:"timeline"`
	Database string `json:"database"`
	Version  int    `json:"server_version_num"`
}

type slotStatus struct {
	Name      string `json:"slot"`
	Confirmed string `json:"confirmed_flush_lsn"`
	Flushed   string `json:"wal_flush_lsn"`
	Lag       int64  `json:"lag_bytes"`
	// LagTransactions estimates how many transactions that wrote the server has
	// begun since; null if it is not known.
	LagTransactions *int64 `json:"lag_transactions"`
	RetainedWAL     int64  `json:"retained_wal_bytes"`
	WALStatus       string `json:"wal_status"`
	SafeWALSize     *int64 `json:"safe_wal_size_bytes"` // null without a limit
	Active          bool   `json:"active"`
	ActivePID       int    `json:"active_pid,omitempty"`
	Copies          int    `json:"copies,omitempty"` // through which a streamer is catching up
	Lost            bool   `json:"lost"`
	Outlook         string `json:"outlook,omitempty"` // what happens if nothing changes

	nextTransaction int64 // of the server
}

// countTransactions tells the lag in transactions, given the checkpoint that the
// slot was confirmed by.
func (s *slotStatus) countTransactions(record checkpoint.Record) {
	behind := max(0, s.nextTransaction-record.NextTransaction)
	if s.Lag == 0 {
		behind = 0
	} else if record.NextTransaction == 0 {
		return
	}
	s.LagTransactions = &behind
}

type streamerStatus struct {
	Phase          string                 `json:"phase"`
	Detail         string                 `json:"detail,omitempty"`
	Ready          bool                   `json:"ready"`
	Since          time.Time              `json:"since,omitzero"`
	InFlightEvents int64                  `json:"in_flight_events"`
	InFlightBytes  int64                  `json:"in_flight_bytes"`
	Reader         string                 `json:"reader,omitempty"` // while it streams: stream or catch-up
	LagSeconds     *float64               `json:"lag_seconds"`      // null while it stands by
	Rate           *float64               `json:"events_per_second,omitempty"`
	Reconnects     int64                  `json:"reconnects"`
	LastAck        time.Time              `json:"last_acknowledged,omitzero"`
	Topics         map[string]topicStatus `json:"topics"`       // since the process started
	DeadLetters    map[string]int64       `json:"dead_letters"` // by class, of which there are some since the process started
}

type topicStatus struct {
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
	Errors int64 `json:"errors"` // batches that were not taken, and sent again
}

// readStatus asks everybody. The error is the first of those that matter.
func readStatus(ctx context.Context, cfg config.Config) (status, error) {
	s := status{At: time.Now().UTC()}
	if cfg.Shard.Count > 1 {
		s.Shard = fmt.Sprintf("%d of %d", cfg.Shard.Index, cfg.Shard.Count)
	}
	var failed []error
	failed = append(failed, s.readPostgres(ctx, cfg))
	if s.Server != nil {
		server := replication.Server{SystemID: s.Server.SystemID, Database: s.Server.Database}
		record, err := loadCheckpoint(ctx, cfg, identityOf(server, cfg))
		if err == nil {
			shown := showCheckpoint(record, checkpointPlace(cfg))
			s.Checkpoint, s.Resume = &shown, resumeOf(record)
			s.dateRewind(record.Past)
			if s.Slot != nil {
				s.Slot.countTransactions(record)
			}
		}
		if errors.Is(err, checkpoint.ErrNone) { // nothing has been streamed yet
			s.Unknown = append(s.Unknown, "checkpoint: "+err.Error())
			err = nil
		}
		failed = append(failed, err)
	} else {
		s.Unknown = append(s.Unknown, "checkpoint: whose it is, only the server can say")
	}
	failed = slices.DeleteFunc(failed, func(err error) bool { return err == nil })
	for _, err := range failed {
		s.Unknown = append(s.Unknown, err.Error())
	}
	streamer, err := askStreamer(ctx, cfg.HTTP.Listen)
	if err != nil {
		s.Unknown = append(s.Unknown, "streamer: "+err.Error())
	}
	s.Streamer = streamer
	if len(failed) == 0 {
		return s, nil
	}
	return s, failed[0]
}

func (s *status) readPostgres(ctx context.Context, cfg config.Config) error {
	control, _, err := connectPostgres(ctx, cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	server, err := control.Identify(ctx)
	if err != nil {
		return err
	}
	s.Server = &serverStatus{SystemID: server.SystemID, Timeline: server.Timeline, Database: server.Database, Version: server.Version}
	slot, err := control.Slot(ctx)
	if err != nil {
		return err
	}
	s.Slot = &slotStatus{
		Name: slot.Name, Confirmed: slot.Confirmed.String(), Flushed: slot.Flushed.String(), Lag: slot.Lag, RetainedWAL: slot.RetainedWAL,
		WALStatus: slot.WALStatus, SafeWALSize: slot.SafeWALSize, Active: slot.Active, ActivePID: slot.ActivePID, Copies: slot.Copies, Lost: slot.Lost(),
		nextTransaction: slot.NextTransaction,
	}
	if err := s.readPast(ctx, control, slot.Name); err != nil || !slot.Lost() {
		return err
	}
	return replication.Refusal(replication.CheckSlot(slot, server))
}

// askStreamer asks the running streamer how it is and reads its metrics.
func askStreamer(ctx context.Context, listen string) (*streamerStatus, error) {
	health, err := askHealth(ctx, listen)
	if err != nil {
		return nil, err
	}
	s := &streamerStatus{Phase: string(health.Phase), Detail: health.Detail, Ready: health.Ready, Since: health.Since}
	err = ask(ctx, listen, "/metrics", func(body io.Reader) error {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(body)
		if err == nil {
			s.readMetrics(families)
		}
		return err
	})
	return s, err
}

func (s *streamerStatus) readMetrics(families map[string]*dto.MetricFamily) {
	s.InFlightEvents = int64(sum(families["streamer_in_flight_events"]))
	s.InFlightBytes = int64(sum(families["streamer_in_flight_bytes"]))
	s.Reconnects = int64(sum(families["streamer_reconnects_total"]))
	if at := sum(families["streamer_last_ack_timestamp_seconds"]); at > 0 {
		s.LastAck = time.UnixMilli(int64(at * 1000)).UTC()
	}
	if known := families["streamer_lag_seconds"]; known != nil {
		behind := sum(known)
		s.LagSeconds = &behind
		if s.Reader = string(pipeline.ReadStream); sum(families["streamer_catching_up"]) > 0 {
			s.Reader = string(pipeline.ReadCatchUp)
		}
	}
	s.DeadLetters = map[string]int64{}
	for _, m := range families["streamer_dead_letters_total"].GetMetric() {
		if count := int64(m.GetCounter().GetValue()); count > 0 {
			s.DeadLetters[label(m, "class")] = count
		}
	}
	s.Topics = map[string]topicStatus{}
	for _, m := range families["streamer_events_produced_total"].GetMetric() {
		s.Topics[topicOf(m)] = topicStatus{Events: int64(m.GetCounter().GetValue())}
	}
	for _, m := range families["streamer_bytes_produced_total"].GetMetric() {
		t := s.Topics[topicOf(m)]
		t.Bytes = int64(m.GetCounter().GetValue())
		s.Topics[topicOf(m)] = t
	}
	for _, m := range families["streamer_produce_errors_total"].GetMetric() {
		t := s.Topics[topicOf(m)]
		t.Errors = int64(m.GetCounter().GetValue())
		s.Topics[topicOf(m)] = t
	}
}

func sum(family *dto.MetricFamily) (total float64) {
	for _, m := range family.GetMetric() {
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is not there
	}
	return total
}

func topicOf(m *dto.Metric) string { return label(m, "topic") }

func label(m *dto.Metric, name string) string {
	for _, label := range m.GetLabel() {
		if label.GetName() == name {
			return label.GetValue()
		}
	}
	return ""
}

func (s status) rows() [][2]string {
	var rows [][2]string
	if v := s.Server; v != nil {
		rows = append(rows, [2]string{"server", fmt.Sprintf("PostgreSQL %d.%d, system %s, timeline %d, database %q", v.Version/10000, v.Version%10000, v.SystemID, v.Timeline, v.Database)})
	}
	if s.Shard != "" {
		rows = append(rows, [2]string{"shard", s.Shard})
	}
	if s.Slot != nil {
		rows = append(rows, s.Slot.rows()...)
	}
	if s.Rewind != nil {
		rows = append(rows, s.Rewind.row("rewind slot", "for `streamer replay`", "being moved"))
	}
	if s.Replay != nil {
		rows = append(rows, s.Replay.row("replay slot", "interrupted", "replay is running"))
	}
	if s.Checkpoint != nil {
		rows = append(rows, s.Checkpoint.rows()[:3]...)
	}
	if s.Resume != nil {
		rows = append(rows, [2]string{"resume", s.Resume.String()})
	}
	if s.Streamer != nil {
		rows = append(rows, s.Streamer.rows()...)
	}
	for _, why := range s.Unknown {
		rows = append(rows, [2]string{"unknown", strings.ReplaceAll(why, "\n", "; ")})
	}
	return rows
}

func (s *slotStatus) rows() [][2]string {
	left := "without limit"
	if s.SafeWALSize != nil {
		left = "lost after " + size(max(0, *s.SafeWALSize)) + " more"
	}
	if s.Lost {
		left = "what it needs is gone: docs/how-to/slot-lost.md"
	}
	lag := size(s.Lag)
	if s.LagTransactions != nil {
		lag += ", some " + counted(*s.LagTransactions, "transaction")
	}
	rows := [][2]string{
		{"slot", s.Name + ", " + usedBy(replication.Slot{Active: s.Active, ActivePID: s.ActivePID, Copies: s.Copies})},
		{"confirmed", s.Confirmed + " of " + s.Flushed},
		{"lag", lag},
		{"retained WAL", fmt.Sprintf("%s (%s), %s", size(s.RetainedWAL), s.WALStatus, left)},
	}
	if s.Outlook != "" {
		rows = append(rows, [2]string{"outlook", s.Outlook})
	}
	return rows
}

func (s *streamerStatus) rows() [][2]string {
	phase := s.Phase
	if s.Detail != "" {
		phase += ": " + s.Detail
	}
	rows := [][2]string{{"streamer", phase}}
	if s.LagSeconds != nil {
		rows = append(rows, [2]string{"behind by", about(time.Duration(*s.LagSeconds*float64(time.Second))) + ", reader " + s.Reader})
	}
	if s.Rate != nil {
		rows = append(rows, [2]string{"rate", fmt.Sprintf("%.0f events/s", *s.Rate)})
	}
	rows = append(rows,
		[2]string{"in flight", fmt.Sprintf("%s, %s", counted(s.InFlightEvents, "event"), size(s.InFlightBytes))},
		[2]string{"reconnects", strconv.FormatInt(s.Reconnects, 10)})
	if !s.LastAck.IsZero() {
		rows = append(rows, [2]string{"acknowledged", s.LastAck.Format(time.RFC3339)})
	}
	for _, class := range slices.Sorted(maps.Keys(s.DeadLetters)) {
		rows = append(rows, [2]string{"dead letters", fmt.Sprintf("%s: %d since the start, see `streamer dead-letters list`", class, s.DeadLetters[class])})
	}
	for _, topic := range slices.Sorted(maps.Keys(s.Topics)) {
		t := s.Topics[topic]
		line := fmt.Sprintf("%s: %s, %s since the start", topic, counted(t.Events, "event"), size(t.Bytes))
		if t.Errors > 0 {
			line += fmt.Sprintf(", %s not taken and sent again", counted(t.Errors, "batch"))
		}
		rows = append(rows, [2]string{"topic", line})
	}
	return rows
}
