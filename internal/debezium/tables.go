package debezium

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/pgname"
)

// splitPatterns splits a list of regular expressions as Debezium does: at commas
// without a backslash before them.
func splitPatterns(list string) []string {
	var patterns []string
	from, escaped := 0, false
	for i := 0; i <= len(list); i++ {
		switch {
		case i == len(list) || list[i] == ',' && !escaped:
			if p := strings.TrimSpace(strings.ReplaceAll(list[from:i], `\,`, ",")); p != "" {
				patterns = append(patterns, p)
			}
			from = i + 1
		case list[i] == '\\' && !escaped:
			escaped = true
			continue
		}
		escaped = false
	}
	return patterns
}

// errNotATable is for a pattern without a schema.
var errNotATable = errors.New("the regular expression does not tell schema and table apart")

// tablesOf returns the tables that a regular expression of table.include.list
// names, with a * where it takes any text.
func tablesOf(pattern string) ([]pgname.Table, error) {
	all, err := branchesOf(pattern)
	if err != nil {
		return nil, err
	}
	var tables []pgname.Table
	for _, b := range all {
		table, err := b.table()
		if err != nil {
			return nil, err
		}
		tables = append(tables, table)
	}
	return tables, nil
}

// branchesOf parses a pattern that has to match as a whole.
func branchesOf(pattern string) ([]branch, error) {
	parsed, err := parsePattern(pattern)
	if err != nil {
		return nil, err
	}
	return branches(parsed.Simplify())
}

// table splits a branch at its dot. A dot that was not escaped counts as one if
// there is no other. Any text that may contain the dot is any schema, too.
func (b branch) table() (pgname.Table, error) {
	dot := "."
	if !strings.Contains(b.text(), dot) {
		dot = "?"
	}
	var pattern strings.Builder
	for i, p := range b {
		switch {
		case p.kind == constant && strings.Contains(p.text, "*"):
			return pgname.Table{}, errNotATable
		case p.kind == opening || p.kind == closing:
		case p.kind == anyCharacter && i+1 < len(b) && b[i+1].kind == anyText: // a name is never empty
		case p.kind == anyCharacter && dot == ".":
			return pgname.Table{}, errComplex
		default:
			pattern.WriteString(p.text)
		}
	}
	text := pattern.String()
	schema, name, found := strings.Cut(text, dot)
	switch {
	case !found && strings.HasPrefix(text, "*"):
		return pgname.Table{Schema: "*", Name: text}, nil
	case !found && strings.Index(text, "*") == len(text)-1:
		return pgname.Table{Schema: text, Name: "*"}, nil
	case !found || schema == "" || name == "" || strings.Contains(name, dot):
		return pgname.Table{}, errNotATable
	}
	return pgname.Table{Schema: schema, Name: name}, nil
}

// schemasOf returns all tables of the schemas that the regular expressions name.
func schemasOf(patterns []string) ([]pgname.Table, error) {
	var tables []pgname.Table
	for _, pattern := range patterns {
		all, err := branchesOf(pattern)
		if err != nil {
			return nil, err
		}
		for _, b := range all {
			schema := strings.ReplaceAll(b.glob(), "?*", "*")
			if strings.ContainsAny(schema, `?\`) {
				return nil, errComplex
			}
			tables = append(tables, pgname.Table{Schema: schema, Name: "*"})
		}
	}
	return tables, nil
}

// matcher matches a whole text against regular expressions of Java. Debezium
// compares names of tables and schemas without regard to case.
func matcher(patterns []string, foldCase bool) (func(string) bool, error) {
	var compiled []*regexp.Regexp
	for _, pattern := range patterns {
		if _, err := parsePattern(pattern); err != nil {
			return nil, err
		}
		flags := "(?:"
		if foldCase {
			flags = "(?i:"
		}
		re, err := regexp.Compile(`\A` + flags + pattern + `)\z`)
		if err != nil {
			return nil, errComplex
		}
		compiled = append(compiled, re)
	}
	return func(text string) bool {
		return slices.ContainsFunc(compiled, func(re *regexp.Regexp) bool { return re.MatchString(text) })
	}, nil
}
