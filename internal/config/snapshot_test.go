package config

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProblemsOfSnapshots(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, key, says string }{
		"no order":       {"snapshot: {mode: initial}", "snapshot.order_by", "name the column"},
		"several tables": {"snapshot: {mode: initial, order_by: n}\noutboxes: [{table: a}]", "snapshot.mode", "takes a single table"},
		"an ID inside JSON": {
			"snapshot: {mode: initial, order_by: n}\noutbox: {columns: {id: meta#/id}}", "outbox.columns.id", "not inside JSON",
		},
		"NUL": {"snapshot: {where: \"\\0\"}", "snapshot.where", "NUL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadText(t, c.text)
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.key+" ")
			assert.Contains(t, err.Error(), c.says)
		})
	}
}
