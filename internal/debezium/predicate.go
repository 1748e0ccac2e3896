package debezium

import (
	"strings"

	"github.com/outboxstream/streamer/internal/pgname"
)

// predicate returns which topics come to the router; nil means all of them. It
// returns false if the rows of no table do, or if that is not known.
func (r *router) predicate(s selection) (accepts func(topic string) bool, ok bool) {
	name, negateName := r.option("predicate"), r.option("negate")
	alias := r.value(name, "")
	isNegated := r.isTrue(negateName, false)
	if alias == "" {
		r.same(negateName, "no effect without a predicate")
		return nil, true
	}
	switch class := shortClass(r.value("predicates."+alias+".type", "")); {
	case class == "RecordIsTombstone" && isNegated:
		r.predicateIs(alias, "a deleted row publishes nothing, with and without it")
		return nil, true
	case class == "TopicNameMatches":
		return r.topicPredicate(alias, s.prefix, isNegated), true
	case class == "RecordIsTombstone":
		r.predicateIsUnclear(alias, "it lets only tombstones through, so the router publishes nothing")
		return nil, false
	}
	r.predicateIsUnclear(alias, "which rows it lets through is not known")
	return nil, true
}

// topicPredicate selects tables by the topics that their rows have before the
// router.
func (r *router) topicPredicate(alias, prefix string, isNegated bool) func(string) bool {
	matches, err := matcher([]string{r.value("predicates."+alias+".pattern", "")}, false)
	switch {
	case err != nil:
		r.predicateIsUnclear(alias, err.Error())
		return nil
	case prefix == "":
		r.predicateIsUnclear(alias, "the names of the topics that it matches begin with topic.prefix, which is not set")
		return nil
	}
	r.predicateIs(alias, "the tables that it lets through are the outbox tables")
	return func(topic string) bool { return matches(topic) != isNegated }
}

// ofPredicate are the options of the router and of its predicate.
func (r *router) ofPredicate(alias string) []string {
	options := []string{r.option("predicate"), r.option("negate")}
	for name := range r.options {
		if isBelow(name, "predicates."+alias) {
			options = append(options, name)
		}
	}
	return options
}

func (r *router) predicateIs(alias, says string) {
	for _, option := range r.ofPredicate(alias) {
		r.same(option, says)
	}
}

func (r *router) predicateIsUnclear(alias, why string) {
	for _, option := range r.ofPredicate(alias) {
		r.lacks(option, why, "name the tables whose rows are to be published in outbox.table or outboxes")
	}
}

// namedByPredicate are the tables that the predicate itself names, where the
// connector captures a whole schema or everything.
func (r *router) namedByPredicate(s selection) []string {
	alias := r.value(r.option("predicate"), "")
	if alias == "" || s.prefix == "" || r.isTrue(r.option("negate"), false) {
		return nil
	}
	all, err := branchesOf(r.value("predicates."+alias+".pattern", ""))
	if err != nil {
		return nil
	}
	var names []string
	for _, b := range all {
		table, ok := b.topicTable(s.prefix)
		if !ok {
			return nil
		}
		if table.Schema == "*" && len(s.tables) == 1 {
			table.Schema = s.tables[0].Schema
		}
		names = append(names, table.String())
	}
	return names
}

// topicTable is the table of the topics prefix.schema.table that the branch
// matches.
func (b branch) topicTable(prefix string) (pgname.Table, bool) {
	var written strings.Builder
	for _, p := range b {
		switch p.kind {
		case constant, anyText:
			written.WriteString(p.text)
		case anyCharacter:
			written.WriteByte('.') // that was not escaped
		case opening, closing:
		}
	}
	text := written.String()
	rest, ok := strings.CutPrefix(text, prefix+".")
	if !ok {
		rest, ok = strings.CutPrefix(text, "*.")
	}
	if !ok && !strings.HasPrefix(text, "*") {
		return pgname.Table{}, false
	}
	if !ok {
		rest = text
	}
	schema, table, found := strings.Cut(rest, ".")
	if !found {
		schema, table = "*", rest
	}
	return pgname.Table{Schema: schema, Name: table}, schema != "" && table != "" && !strings.Contains(table, ".")
}
