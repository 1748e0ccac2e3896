package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func withFlags(t *testing.T, settings ...string) (*Loaded, error) {
	t.Helper()
	flags := map[string]string{}
	for _, s := range settings {
		key, value, ok := strings.Cut(s, "=")
		require.True(t, ok)
		flags[key] = value
	}
	return Load(Options{NoFile: true, Flags: flags})
}

func TestEveryPresetIsValid(t *testing.T) {
	t.Parallel()
	var names []string
	for _, p := range Presets() {
		loaded, err := withFlags(t, "outbox.preset="+p.Name)
		require.NoError(t, err, p.Name)
		o := loaded.Config.Outbox
		assert.Equal(t, p.Outbox.Table, o.Table, "the name is in its normal form")
		assert.Equal(t, p.Outbox.Columns, o.Columns)
		assert.NotEmpty(t, p.Title)
		assert.Equal(t, p.Dispatcher == "", p.TurnOff == "", "%s: who sends can be turned off", p.Name)
		names = append(names, p.Name)
	}
	assert.True(t, slices.IsSorted(names))
	assert.Equal(t, append([]string{""}, names...), root.child("outbox").child("preset").enum, "the tag of Outbox.Preset lists them all")
}

func TestPresetIsOverridden(t *testing.T) {
	t.Parallel()
	o := write(t, `
outbox:
  preset: masstransit
  columns: {aggregate_id: CorrelationId, causationid: ""}
  extensions: {destination: "", tenantid: "Headers#/tenant"}
`)
	o.Environ = []string{"STREAMER_OUTBOX_TABLE=bus.OutboxMessage"}
	loaded := load(t, o)
	got := loaded.Config.Outbox
	assert.Equal(t, "bus.OutboxMessage", got.Table)
	assert.Equal(t, "CorrelationId", got.Columns.AggregateID)
	assert.Empty(t, got.Columns.CausationID)
	assert.Equal(t, "Body#/message", got.Columns.Payload)
	assert.Equal(t, map[string]string{"tenantid": "Headers#/tenant"}, got.Extensions, "an extension of the preset can be left out")

	origins := loaded.Origins
	assert.Equal(t, "environment STREAMER_OUTBOX_TABLE", origins["outbox.table"])
	assert.Equal(t, "preset masstransit", origins["outbox.columns.payload"])
	assert.Equal(t, "preset masstransit", origins["outbox.columns.aggregate_type"], "also what it leaves out")
	assert.Equal(t, "preset masstransit", origins["outbox.defaults.type"])
	assert.True(t, strings.HasPrefix(origins["outbox.columns.aggregate_id"], "file "))
	assert.Equal(t, "default", origins["outbox.max_row_bytes"])
	assert.Contains(t, effective(t, loaded), "  # preset masstransit\n")

	// A second configuration is not affected by what the first one changed.
	again, err := withFlags(t, "outbox.preset=masstransit")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"destination": "DestinationAddress"}, again.Config.Outbox.Extensions)
}

func TestPresetFillsAnyOutbox(t *testing.T) {
	t.Parallel()
	p, ok := FindPreset("marten")
	require.True(t, ok)
	o := Default().Outbox
	p.Apply(&o)
	assert.Equal(t, "public.mt_events", o.Table)
	assert.Equal(t, "milliseconds", o.TimeUnit, "what a preset does not say stays")
	assert.Equal(t, Default().Outbox.NullPayload, o.NullPayload)
	_, ok = FindPreset("")
	assert.False(t, ok)
}

func TestUnknownPreset(t *testing.T) {
	t.Parallel()
	_, err := withFlags(t, "outbox.preset=spring-modulit")
	require.ErrorContains(t, err, "outbox.preset (--set outbox.preset): \"spring-modulit\": use axon, brighter, ")
	require.ErrorContains(t, err, ": did you mean spring-modulith?")
	assert.NotContains(t, err.Error(), "\n", "one sentence")
}

func TestHalfMapped(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		"outbox.columns.aggregate_type=": "outbox.columns.aggregate_type (--set outbox.columns.aggregate_type): " +
			"every event needs it: name its column, or set the constant outbox.defaults.aggregate_type",
		"outbox.columns.id=": "outbox.columns.id (--set outbox.columns.id): every event needs it: name its column",
		"outbox.columns.type=body#/a~": `outbox.columns.type (--set outbox.columns.type): "body#/a~": write a column, or column#/json/pointer ` +
			"as defined in RFC 6901: in a pointer, ~0 stands for ~ and ~1 for /",
		"outbox.extensions.x=#/a":                         `(--set outbox.extensions.x): "#/a": write a column, or column#/json/pointer`,
		"outbox.defaults.type= ":                          `(--set outbox.defaults.type): " ": CloudEvents does not allow blank values`,
		"shard.count=2 outbox.columns.aggregate_id=h#/id": "shard.count (--set shard.count): PostgreSQL shares rows out by a hash of the column",
		"outbox.columns.time=h#/at outbox.cleanup.mode=delete": "outbox.cleanup.time_column: name the column that says when a row was written, " +
			"or map it as outbox.columns.time",
	} {
		_, err := withFlags(t, strings.Split(settings, " outbox")[0])
		if strings.Contains(settings, " outbox") {
			first, second, _ := strings.Cut(settings, " outbox")
			_, err = withFlags(t, first, "outbox"+second)
		}
		require.ErrorContains(t, err, want, settings)
		assert.NotContains(t, err.Error(), "\n", "one sentence")
	}
	_, err := withFlags(t, "outbox.columns.aggregate_type=", "outbox.defaults.aggregate_type=order")
	require.NoError(t, err)
}
