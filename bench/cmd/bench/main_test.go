package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/bench/internal/workload"
)

func TestParse(t *testing.T) {
	t.Parallel()
	t.Run("nothing is everything", func(t *testing.T) {
		t.Parallel()
		options, folder, result, err := parse(nil, io.Discard)
		require.NoError(t, err)
		assert.Len(t, options.Workloads, len(workload.All()))
		assert.Empty(t, options.Contenders)
		assert.Equal(t, "bench/report", folder)
		assert.False(t, result.Sweep)
	})
	t.Run("a choice", func(t *testing.T) {
		t.Parallel()
		options, _, result, err := parse(
			[]string{
				"-workloads", "w2,W1", "-contenders", "streamer,debezium", "-scale", "0.1", "-broker-cores", "1", "-before", "HEAD~1",
			}, io.Discard,
		)
		require.NoError(t, err)
		require.Len(t, options.Workloads, 2)
		assert.Equal(t, "W2", options.Workloads[0].Name)
		assert.Equal(t, []string{"streamer", "debezium"}, options.Contenders)
		assert.InDelta(t, 0.1, options.Scale, 0)
		assert.Equal(t, 1, options.BrokerCores)
		assert.Equal(t, "HEAD~1", options.Before)
		assert.Equal(t, 1, result.BrokerCores)
		assert.Contains(t, result.Command, "-contenders streamer,debezium")
	})
	t.Run("other rates", func(t *testing.T) {
		t.Parallel()
		options, _, _, err := parse([]string{"-workloads", "W1,W6", "-rates", "50,1000"}, io.Discard)
		require.NoError(t, err)
		assert.Empty(t, options.Workloads[0].Rates)
		assert.Equal(t, []int{50, 1000}, options.Workloads[1].Rates)
	})
	t.Run("a sweep is of the streamer", func(t *testing.T) {
		t.Parallel()
		options, _, result, err := parse([]string{"-sweep"}, io.Discard)
		require.NoError(t, err)
		assert.Len(t, options.Workloads, len(workload.Sweep()))
		assert.Equal(t, []string{"streamer"}, options.Contenders)
		assert.True(t, result.Sweep)
	})
	for name, args := range map[string][]string{
		"no such workload":  {"-workloads", "W9"},
		"scale of nothing":  {"-scale", "0"},
		"no rounds":         {"-rounds", "0"},
		"fewer than none":   {"-broker-cores", "-1"},
		"an argument":       {"W1"},
		"no such flag":      {"-fast"},
		"a rate by mistake": {"-workloads", "W6@100"},
		"no rate":           {"-rates", "often"},
		"a rate of nothing": {"-rates", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, _, err := parse(args, io.Discard)
			require.Error(t, err)
		})
	}
}
