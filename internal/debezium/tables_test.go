package debezium

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTablesOf(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string][]string{
		`public.outbox`:             {"public.outbox"},
		`public\.outbox`:            {"public.outbox"},
		`^public\.outbox$`:          {"public.outbox"},
		`(public\.outbox)`:          {"public.outbox"},
		`(sales|stock)\.outbox`:     {"sales.outbox", "stock.outbox"},
		`tenant_.*\.outbox`:         {"tenant_*.outbox"},
		`tenant_.+.outbox`:          {"tenant_*.outbox"},
		`.*\.outbox`:                {"*.outbox"},
		`.*.outbox`:                 {"*.outbox"},
		`.*outbox`:                  {"*.*outbox"},
		`.*`:                        {"*.*"},
		`public.*`:                  {"public*.*"},
		`public\..*`:                {"public.*"},
		`public\.outbox_[ab]`:       {"public.outbox_a", "public.outbox_b"},
		`my-schema\.Out"box`:        {`my-schema."Out""box"`},
		`public\.outbox(_archive)?`: {"public.outbox_archive", "public.outbox"},
	} {
		tables, err := tablesOf(pattern)
		require.NoError(t, err, pattern)
		var names []string
		for _, table := range tables {
			names = append(names, table.String())
		}
		assert.Equal(t, want, names, pattern)
	}
	for _, pattern := range []string{
		`outbox`, `tenant_\d+\.outbox`, `(?!x)public\.outbox`, `a\.b\.c`, `public\.out.ox`, `public\.`, `public\.a\*`, `(`, `[a-z]+\.outbox`,
	} {
		_, err := tablesOf(pattern)
		assert.Error(t, err, pattern)
	}
}

func TestSplitPatterns(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]string{
		`a.b`:           {"a.b"},
		"\ta.b , c.d ,": {"a.b", "c.d"},
		`a.b{1\,2},c.d`: {"a.b{1,2}", "c.d"},
		`a\\,b`:         {`a\\`, "b"},
		``:              nil,
	} {
		assert.Equal(t, want, splitPatterns(list), list)
	}
}
