package replication

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestQuote(t *testing.T) {
	t.Parallel()
	assert.Equal(t, `"a"`, quoteIdentifier("a"))
	assert.Equal(t, `"a""b'c\.d"`, quoteIdentifier(`a"b'c\.d`))
	assert.Equal(t, `""`, quoteIdentifier(""))
	assert.Equal(t, `'a'`, quoteLiteral("a"))
	assert.Equal(t, `'a''b"c'''`, quoteLiteral(`a'b"c'`))
	assert.Equal(t, `'"a""''"'`, quoteLiteral(quoteIdentifier(`a"'`)))
	for name, want := range map[string][3]string{
		"public.outbox":   {"public", "outbox", `"public"."outbox"`},
		"outbox":          {"public", "outbox", `"public"."outbox"`},
		`Sales."Out.box"`: {"Sales", "Out.box", `"Sales"."Out.box"`},
		`"a""".b'`:        {`a"`, "b'", `"a"""."b'"`},
		"a.b.c":           {"", "", `"".""`}, // refused by the configuration
	} {
		schema, table := SplitTable(name)
		assert.Equal(t, want, [3]string{schema, table, QuoteTable(name)}, name)
	}
}

func TestStandbyNamesMatch(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]bool{
		"":                              false,
		" ":                             false,
		"*":                             true,
		`"*"`:                           true,
		"FIRST 1 (*)":                   true,
		"ANY 2 (a, *)":                  true,
		"2 (a, b)":                      false,
		"a,b":                           false,
		`"streamer:outbox"`:             true,
		`"STREAMER:Outbox"`:             true,
		`a, "streamer:outbox"`:          true,
		`first 1(a,"streamer:outbox" )`: true,
		"streamer":                      false,
		`"streamer:outbox2"`:            false,
		"outbox":                        false,
		`"a*", b`:                       false,
	} {
		assert.Equal(t, want, standbyNamesMatch(setting, "streamer:outbox"), setting)
	}
}

func TestApplicationName(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "streamer:outbox", Config{Slot: "outbox"}.ApplicationName())
	assert.Len(t, Config{Slot: strings.Repeat("x", 63)}.ApplicationName(), 63)
}

func TestSwitchPointOfHistory(t *testing.T) {
	t.Parallel()
	const history = "1\t0/1500000\tno recovery target specified\n\n" +
		"2\t0/2A00098\tbefore 2024-01-02 03:04:05+00\r\n  12  16/B374D848\treason\n#3 0/1\n"
	for timeline, want := range map[int32]LSN{1: 0x1500000, 2: 0x2A00098, 12: 0x16_B374D848} {
		at, ok := switchPoint(history, timeline)
		assert.True(t, ok)
		assert.Equal(t, want, at)
	}
	for _, timeline := range []int32{0, 3, 11, 4, -1} {
		_, ok := switchPoint(history, timeline)
		assert.False(t, ok, timeline)
	}
	for _, broken := range []string{"", "1", "1\n", "1 nonsense x", "1 0-1 x"} {
		_, ok := switchPoint(broken, 1)
		assert.False(t, ok, broken)
	}
}

func TestPosition(t *testing.T) {
	t.Parallel()
	ordered := []Position{{}, {0, 1}, {1, 0}, {1, 1}, {1, 2}, {2, 0}, {2, 1}, {1 << 63, 0}, {1<<64 - 1, 1<<32 - 1}}
	assert.True(t, slices.IsSortedFunc(ordered, Position.Compare))
	for i, p := range ordered {
		same := p
		assert.Zero(t, p.Compare(same))
		for _, q := range ordered[:i] {
			assert.Positive(t, p.Compare(q))
			assert.Negative(t, q.Compare(p))
		}
	}
	assert.Equal(t, "16/B374D848+7", Position{0x16_B374D848, 7}.String())
}

func TestBadMinor(t *testing.T) {
	t.Parallel()
	for version, bad := range map[int]bool{
		140017: true, 140018: false, 150012: true, 150013: false, 160008: true, 160009: false,
		170004: true, 170005: false, 180000: false, 190000: false,
	} {
		assert.Equal(t, bad, badMinor(version) != "", version)
		findings := CheckServer(Server{WALLevel: "logical", Version: version}, Config{})
		if !bad {
			assert.Empty(t, findings)
			continue
		}
		assert.Len(t, findings, 1)
		assert.False(t, findings[0].Fatal)
		assert.Contains(t, findings[0].Problem, versionText(version))
		require.NoError(t, Refusal(findings))
	}
	assert.Equal(t, "15.18", versionText(150018))
}
