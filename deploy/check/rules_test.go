package check

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rules returns the alerts as Prometheus reads them. Names, expressions,
// durations and templates are checked.
func rules(t *testing.T) map[string]rulefmt.RuleNode {
	t.Helper()
	groups, errs := rulefmt.ParseFile("../prometheus/alerts.yaml")
	require.Empty(t, errs)
	all := map[string]rulefmt.RuleNode{}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			all[rule.Alert.Value] = rule
		}
	}
	return all
}

// fires returns the alerts that fire after so many minutes of these series. An
// alert fires if its expression has held for as long as it says.
func fires(t *testing.T, all map[string]rulefmt.RuleNode, series string, minutes int) (firing []string) {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 1m\n  "+strings.TrimSpace(series))
	t.Cleanup(func() { _ = storage.Close() })
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	end := time.Unix(0, 0).Add(time.Duration(minutes) * time.Minute)
	for name, rule := range all {
		holds := true
		for at := end.Add(-time.Duration(rule.For)); holds && !at.After(end); at = at.Add(time.Minute) {
			query, err := engine.NewInstantQuery(t.Context(), storage, nil, rule.Expr.Value, at)
			require.NoError(t, err)
			result := query.Exec(t.Context())
			require.NoError(t, result.Err, name)
			vector, err := result.Vector()
			require.NoError(t, err)
			holds = len(vector) > 0
			for _, sample := range vector {
				labelled(t, rule, sample)
			}
			query.Close()
		}
		if holds {
			firing = append(firing, name)
		}
	}
	return firing
}

// labelled makes sure that the texts of an alert find the labels that they
// name.
func labelled(t *testing.T, rule rulefmt.RuleNode, sample promql.Sample) {
	t.Helper()
	for _, text := range rule.Annotations {
		for _, name := range []string{"job", "slot", "topic", "class"} {
			if strings.Contains(text, "$labels."+name) {
				assert.NotEmpty(t, sample.Metric.Get(name), "%s: label %s in %q", rule.Alert.Value, name, text)
			}
		}
	}
	assert.NotEqual(t, labels.Labels{}, sample.Metric)
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	all := rules(t)
	require.Len(t, all, 9)
	for name, c := range map[string]struct {
		series  string
		minutes int
		want    []string
	}{
		"one streams and one stands by": {`
			streamer_state{job="s", instance="a", state="streaming"} 1x30
			streamer_state{job="s", instance="b", state="streaming"} 0x30
			streamer_lag_seconds{job="s", instance="a"} 1x30
			streamer_exactly_once{job="s", instance="a"} 1x30
			streamer_exactly_once{job="s", instance="b"} 0x30
			streamer_slot_retained_wal_bytes{job="s", slot="streamer"} 1000000x30
			streamer_slot_safe_wal_bytes{job="s", slot="streamer"} 1000000000x30
			streamer_reconnects_total{job="s", instance="a"} 0x10 3x20`, 30, nil},
		"nobody streams": {`
			streamer_state{job="s", instance="a", state="streaming"} 1x5 0x20
			streamer_state{job="s", instance="b", state="streaming"} 0x25`, 10, []string{"StreamerNotStreaming"}},
		"nobody streams for a moment": {`
			streamer_state{job="s", instance="a", state="streaming"} 1x5 0x20`, 7, nil},
		"all are gone": {`
			streamer_build_info{job="s", instance="a", version="1"} 1x5 stale
			streamer_build_info{job="other", instance="b", version="1"} 1x20`, 10, []string{"StreamerGone"}},
		"one of two is gone": {`
			streamer_build_info{job="s", instance="a", version="1"} 1x5 stale
			streamer_build_info{job="s", instance="b", version="1"} 1x20`, 10, nil},
		"events come late": {`
			streamer_lag_seconds{job="s", instance="a"} 0+30x30`, 10, []string{"StreamerLagging"}},
		"the slot will be lost": {`
			streamer_slot_safe_wal_bytes{job="s", slot="streamer"} 10000000000-100000000x90`, 85, []string{"StreamerSlotWillBeLost"}},
		"the slot keeps much": {`
			streamer_slot_retained_wal_bytes{job="s", slot="streamer"} 30000000000x30`, 20, []string{"StreamerSlotKeepsMuchLog"}},
		"a crash would repeat": {`
			streamer_exactly_once{job="s", instance="a"} 0x30
			streamer_state{job="s", instance="a", state="streaming"} 1x30`, 20, []string{"StreamerMayRepeat"}},
		"a row could not be published": {`
			streamer_dead_letters_total{job="s", instance="a", class="size"} 0x5 1x20`, 8, []string{"StreamerDeadLetters"}},
		"connections break": {`
			streamer_reconnects_total{job="s", instance="a"} 0+2x30`, 20, []string{"StreamerReconnects"}},
		"Kafka refuses": {`
			streamer_produce_errors_total{job="s", instance="a", topic="orders"} 0+60x30`, 20, []string{"StreamerKafkaErrors"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.ElementsMatch(t, c.want, fires(t, all, c.series, c.minutes))
		})
	}
}
