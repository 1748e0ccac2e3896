package status

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/pipeline"
)

// Streamer is the answer of a running streamer.
type Streamer struct {
	Phase          string           `json:"phase"`
	Detail         string           `json:"detail,omitempty"`
	Ready          bool             `json:"ready"`
	Since          time.Time        `json:"since,omitzero"`
	InFlightEvents int64            `json:"in_flight_events"`
	InFlightBytes  int64            `json:"in_flight_bytes"`
	Reader         string           `json:"reader,omitempty"` // while it streams: stream or catch-up
	LagSeconds     *float64         `json:"lag_seconds"`      // null while it stands by
	Rate           *float64         `json:"events_per_second,omitempty"`
	Reconnects     int64            `json:"reconnects"`
	LastAck        time.Time        `json:"last_acknowledged,omitzero"`
	Topics         map[string]Topic `json:"topics"`       // since the process started
	DeadLetters    map[string]int64 `json:"dead_letters"` // by class, for classes with dead letters since the process started
}

// Topic is what has been published to one topic since the process started.
type Topic struct {
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
	Errors int64 `json:"errors"` // batches that were rejected and sent again
}

// askStreamer asks the running streamer for its health and reads its metrics.
func askStreamer(ctx context.Context, listen string) (*Streamer, error) {
	health, err := AskHealth(ctx, listen)
	if err != nil {
		return nil, err
	}
	s := &Streamer{Phase: string(health.Phase), Detail: health.Detail, Ready: health.Ready, Since: health.Since}
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

func (s *Streamer) readMetrics(families map[string]*dto.MetricFamily) {
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
	s.Topics = map[string]Topic{}
	for _, m := range families["streamer_events_produced_total"].GetMetric() {
		s.Topics[topicOf(m)] = Topic{Events: int64(m.GetCounter().GetValue())}
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
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is absent
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

func (s *Streamer) rows() [][2]string {
	phase := s.Phase
	if s.Detail != "" {
		phase += ": " + s.Detail
	}
	rows := [][2]string{{"streamer", phase}}
	if s.LagSeconds != nil {
		rows = append(rows, [2]string{"behind by", console.About(time.Duration(*s.LagSeconds*float64(time.Second))) + ", reader " + s.Reader})
	}
	if s.Rate != nil {
		rows = append(rows, [2]string{"rate", fmt.Sprintf("%.0f events/s", *s.Rate)})
	}
	rows = append(rows,
		[2]string{"in flight", fmt.Sprintf("%s, %s", console.Counted(s.InFlightEvents, "event"), console.Size(s.InFlightBytes))},
		[2]string{"reconnects", strconv.FormatInt(s.Reconnects, 10)})
	if !s.LastAck.IsZero() {
		rows = append(rows, [2]string{"acknowledged", s.LastAck.Format(time.RFC3339)})
	}
	for _, class := range slices.Sorted(maps.Keys(s.DeadLetters)) {
		rows = append(rows, [2]string{
			"dead letters",
			fmt.Sprintf("%s: %d since the start, see `streamer dead-letters list`", class, s.DeadLetters[class]),
		})
	}
	for _, topic := range slices.Sorted(maps.Keys(s.Topics)) {
		t := s.Topics[topic]
		line := fmt.Sprintf("%s: %s, %s since the start", topic, console.Counted(t.Events, "event"), console.Size(t.Bytes))
		if t.Errors > 0 {
			line += fmt.Sprintf(", %s rejected and sent again", console.Counted(t.Errors, "batch"))
		}
		rows = append(rows, [2]string{"topic", line})
	}
	return rows
}
