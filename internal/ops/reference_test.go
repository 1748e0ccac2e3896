package ops

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/outboxstream/streamer/router"
)

// names are those of the streamer's registered metrics, with a value or not.
func names(m *Metrics) []string {
	descriptions := make(chan *prometheus.Desc, 1000)
	m.registry.Describe(descriptions)
	close(descriptions)
	var found []string
	for d := range descriptions {
		if match := regexp.MustCompile(`fqName: "(streamer_\w+)"`).FindStringSubmatch(d.String()); match != nil {
			found = append(found, match[1])
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func file(t *testing.T, elements ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, elements...)...))
	require.NoError(t, err)
	return string(text)
}

// used are the metrics that a text names, without the suffixes of a histogram.
func used(text string) []string {
	var found []string
	for _, name := range regexp.MustCompile(`streamer_\w+`).FindAllString(text, -1) {
		found = append(found, regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, ""))
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func all() *Metrics {
	m := NewMetrics("test")
	m.WatchLag(func() (time.Duration, bool) { return 0, true })
	return m
}

// The reference names all existing metrics, and no other.
func TestReferenceIsComplete(t *testing.T) {
	t.Parallel()
	assert.Equal(t, names(all()), used(file(t, "docs", "reference", "metrics.md")))
}

// Alerts and dashboards use only metrics that exist, and the reference says
// which alert each metric is for.
func TestAlertsAndDashboardUseWhatThereIs(t *testing.T) {
	t.Parallel()
	have := names(all())
	for _, path := range [][]string{{"deploy", "prometheus", "alerts.yaml"}, {"deploy", "compose", "grafana", "dashboards", "streamer.json"}} {
		found := used(file(t, path...))
		require.NotEmpty(t, found)
		assert.Subset(t, have, found, path)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Expr        string
				Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(file(t, "deploy", "prometheus", "alerts.yaml")), &rules))
	reference := file(t, "docs", "reference", "metrics.md")
	require.NotEmpty(t, rules.Groups)
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			assert.Contains(t, reference, rule.Alert)
			assert.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			assert.NotEmpty(t, rule.Annotations["description"], rule.Alert)
		}
	}
	for _, name := range regexp.MustCompile(`\bStreamer[A-Z]\w+`).FindAllString(reference, -1) {
		assert.Contains(t, file(t, "deploy", "prometheus", "alerts.yaml"), "alert: "+name+"\n")
	}
}

// A counter that an alert watches exists from the beginning: for Prometheus, a
// counter that appears with its first event has not increased.
func TestCountersBeginAtZero(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test")
	m.Published(router.Publication{Topic: "orders", Events: 1})
	families, err := m.registry.Gather()
	require.NoError(t, err)
	found := map[string]int{}
	for _, family := range families {
		for _, series := range family.GetMetric() {
			if series.GetCounter() != nil && series.GetCounter().GetValue() == 0 {
				found[family.GetName()]++
			}
		}
	}
	assert.Equal(t, len(router.PoisonClasses()), found["streamer_dead_letters_total"])
	for _, name := range []string{"streamer_produce_errors_total", "streamer_reconnects_total", "streamer_events_skipped_total"} {
		assert.Equal(t, 1, found[name], name)
	}
	letters := file(t, "docs", "dead-letters.md")
	for _, class := range router.PoisonClasses() {
		assert.Contains(t, letters, "`"+string(class)+"`")
	}
}

// The lag is computed when it is read, and is absent while it is unknown.
func TestLagMetric(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test")
	behind, known := 1500*time.Millisecond, true
	m.WatchLag(func() (time.Duration, bool) { return behind, known })
	value := func() (value float64, there bool) {
		families, err := m.registry.Gather()
		require.NoError(t, err)
		for _, family := range families {
			if family.GetName() == "streamer_lag_seconds" {
				return family.GetMetric()[0].GetGauge().GetValue(), true
			}
		}
		return 0, false
	}
	seconds, there := value()
	assert.True(t, there)
	assert.InDelta(t, 1.5, seconds, 1e-9)
	known = false
	_, there = value()
	assert.False(t, there)
}
