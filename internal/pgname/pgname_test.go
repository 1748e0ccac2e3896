package pgname

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		table Table
		shown string
	}{
		"outbox":                     {Table{"public", "outbox"}, "public.outbox"},
		"sales.Outbox":               {Table{"sales", "Outbox"}, "sales.Outbox"},
		`public."Outbox"`:            {Table{"public", "Outbox"}, "public.Outbox"},
		`"my.schema"."my table"`:     {Table{"my.schema", "my table"}, `"my.schema".my table`},
		`"out.box"`:                  {Table{"public", "out.box"}, `public."out.box"`},
		`a."say ""hi"""`:             {Table{"a", `say "hi"`}, `a."say ""hi"""`},
		`"""".""""`:                  {Table{`"`, `"`}, `"""".""""`},
		"événements.boîte à lettres": {Table{"événements", "boîte à lettres"}, "événements.boîte à lettres"},
	} {
		table, ok := Parse(text)
		assert.True(t, ok, text)
		assert.Equal(t, want.table, table, text)
		assert.Equal(t, want.shown, table.String())
		again, ok := Parse(table.String())
		assert.True(t, ok)
		assert.Equal(t, table, again)
	}
	for _, text := range []string{"", ".", "a.", ".b", "a.b.c", `"a`, `a"b`, `a."b`, `"a"b`, `"a".b.c`, `"".b`, `a.b"c"`, `a."b"."c"`} {
		_, ok := Parse(text)
		assert.False(t, ok, "%q", text)
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, schema, name string
		want                  bool
	}{
		{"tenant_*.outbox", "tenant_1", "outbox", true},
		{"tenant_*.outbox", "tenant_", "outbox", true},
		{"tenant_*.outbox", "tenant_a/b", "outbox", true},
		{"tenant_*.outbox", "tenant1", "outbox", false},
		{"tenant_*.outbox", "tenant_1", "outbox2", false},
		{"*.outbox_*", "any", "outbox_1", true},
		{"*.*", "any", "thing", true},
		{"a[b]*.outbox", "a[b]c", "outbox", true},
		{"a[b]*.outbox", "abc", "outbox", false},
		{"a?*.outbox", "ab", "outbox", false},
		{`a\*.outbox`, `a\b`, "outbox", true},
		{"public.outbox", "public", "outbox", true},
		{"public.outbox", "public", "outbox2", false},
	} {
		table, ok := Parse(c.pattern)
		assert.True(t, ok, c.pattern)
		assert.Equal(t, c.want, table.Matches(c.schema, c.name), "%s: %s.%s", c.pattern, c.schema, c.name)
	}
}
