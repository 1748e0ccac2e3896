package pgname

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseColumn(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Column{
		"id":                  {Name: "id"},
		"MessageId":           {Name: "MessageId"},
		"with space":          {Name: "with space"},
		"with.dot":            {Name: "with.dot"},
		`"quoted"`:            {Name: `"quoted"`}, // as before there were pointers
		"a#b":                 {Name: "a#b"},
		"#":                   {Name: "#"},
		"headers#/id":         {Name: "headers", Pointer: []string{"id"}},
		"Content#/Headers/x":  {Name: "Content", Pointer: []string{"Headers", "x"}},
		"body#/a/0":           {Name: "body", Pointer: []string{"a", "0"}},
		"body#/":              {Name: "body", Pointer: []string{""}},
		"body#/a//b":          {Name: "body", Pointer: []string{"a", "", "b"}},
		"body#/a~1b":          {Name: "body", Pointer: []string{"a/b"}},
		"body#/a~0b":          {Name: "body", Pointer: []string{"a~b"}},
		"body#/~01":           {Name: "body", Pointer: []string{"~1"}},
		"body#/a#/b":          {Name: "body", Pointer: []string{"a#", "b"}},
		`"odd#/name"#/a`:      {Name: "odd#/name", Pointer: []string{"a"}},
		`"say ""hi"""#/a`:     {Name: `say "hi"`, Pointer: []string{"a"}},
		`"not closed#/a`:      {Name: `"not closed`, Pointer: []string{"a"}},
		`"quoted" then#/a`:    {Name: `"quoted" then`, Pointer: []string{"a"}},
		"ünïcode#/é/\u20ac":   {Name: "ünïcode", Pointer: []string{"é", "€"}},
		"body#/$%20/with \"q": {Name: "body", Pointer: []string{"$%20", `with "q`}},
	} {
		got, ok := ParseColumn(text)
		assert.True(t, ok, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "#/a", "body#/a~", "body#/a~2b", "body#/~/x", `""#/a`} {
		_, ok := ParseColumn(text)
		assert.False(t, ok, text)
	}
}
