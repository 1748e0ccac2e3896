package debezium

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
)

// routing is where events go: by exceptions, otherwise by a template.
type routing struct {
	topic  string
	routes []route
}

// route is an exception for the aggregate types that match a pattern.
type route struct {
	AggregateType string `json:"aggregate_type"`
	Topic         string `json:"topic"`
}

// Placeholders of a topic's template and what Debezium has by default.
const (
	wholeValue         = "{aggregate_type}"
	defaultRegex       = "(?<routedByValue>.*)"
	defaultReplacement = "outbox.event.${routedByValue}"
)

// deriveRouting translates route.topic.regex and route.topic.replacement. A
// value that does not match as a whole is the topic itself; in one that does,
// the first match is replaced. The error says what cannot be expressed exactly.
func deriveRouting(regex, replacement string) (routing, error) {
	parsed, err := parsePattern(regex)
	if err != nil {
		return routing{}, err
	}
	parts, err := parseReplacement(replacement, parsed)
	if err != nil {
		return routing{}, err
	}
	all, err := branches(parsed.Simplify())
	if err != nil {
		return routing{}, err
	}
	compiled, err := regexp.Compile(regex)
	if err != nil {
		return routing{}, errComplex
	}
	if !isDecided(all, parsed) {
		return routing{}, errors.New("one alternative of the regular expression may match the beginning of another")
	}
	found := routing{topic: wholeValue}
	for _, b := range all {
		topic, err := topicOf(b, parts, compiled)
		if err != nil {
			return routing{}, err
		}
		if b.isEverything() {
			found.topic = topic
			return found, nil // what follows is never reached
		}
		found.routes = append(found.routes, route{b.glob(), topic})
	}
	return found, nil
}

// isDecided reports whether the branch that matches a value as a whole is the
// one that Java replaces by.
func isDecided(all []branch, parsed *syntax.Regexp) bool {
	open, constants := true, true
	for _, b := range all {
		open, constants = open && b.endsOpen(), constants && b.isConstant()
	}
	return len(all) == 1 || open || constants || endsAnchored(parsed)
}

// endsAnchored reports whether the expression ends with $.
func endsAnchored(re *syntax.Regexp) bool {
	if re.Op == syntax.OpConcat && len(re.Sub) > 0 {
		re = re.Sub[len(re.Sub)-1]
	}
	return re.Op == syntax.OpEndText
}

// topicOf is the topic of the values that match a branch.
func topicOf(b branch, parts []replacementPart, compiled *regexp.Regexp) (string, error) {
	if b.isConstant() {
		return replaceFirst(b.text(), parts, compiled), nil
	}
	var topic strings.Builder
	for _, p := range parts {
		if p.group < 0 {
			topic.WriteString(p.text)
			continue
		}
		inside := b.group(p.group)
		switch {
		case inside.isConstant():
			topic.WriteString(inside.text())
		case inside.glob() == b.glob():
			topic.WriteString(wholeValue)
		default:
			return "", errors.New("the topic has only a part of the value, and a template takes an aggregate type as a whole")
		}
	}
	return topic.String(), nil
}

// replaceFirst replaces the first match in a text, as Java does.
func replaceFirst(text string, parts []replacementPart, compiled *regexp.Regexp) string {
	at := compiled.FindStringSubmatchIndex(text)
	if at == nil {
		return text
	}
	var replaced strings.Builder
	for _, p := range parts {
		if p.group < 0 {
			replaced.WriteString(p.text)
		} else if from, to := at[2*p.group], at[2*p.group+1]; from >= 0 {
			replaced.WriteString(text[from:to])
		}
	}
	return text[:at[0]] + replaced.String() + text[at[1]:]
}

// group returns the pieces of a group; 0 is all of the branch. A group that took
// no part is empty.
func (b branch) group(number int) branch {
	if number == 0 {
		return b
	}
	name := strconv.Itoa(number)
	for from, p := range b {
		if p.kind != opening || p.text != name {
			continue
		}
		for to := from; to < len(b); to++ {
			if b[to].kind == closing && b[to].text == name {
				return b[from+1 : to]
			}
		}
	}
	return nil
}

// replacementPart is a text, or a group if its number is not negative.
type replacementPart struct {
	text  string
	group int
}

// parseReplacement reads a replacement as Java does: $1, ${name}, and a
// backslash before a character that is meant as it is.
func parseReplacement(text string, pattern *syntax.Regexp) ([]replacementPart, error) {
	var parts []replacementPart
	for rest := text; rest != ""; {
		switch {
		case rest[0] == '\\' && len(rest) > 1:
			parts, rest = append(parts, replacementPart{rest[1:2], -1}), rest[2:]
		case rest[0] == '\\':
			return nil, errors.New("the replacement ends with a backslash")
		case rest[0] == '$':
			group, after, err := parseGroup(rest[1:], pattern)
			if err != nil {
				return nil, err
			}
			parts, rest = append(parts, replacementPart{group: group}), after
		default:
			end := strings.IndexAny(rest, `\$`)
			if end < 0 {
				end = len(rest)
			}
			parts, rest = append(parts, replacementPart{rest[:end], -1}), rest[end:]
		}
	}
	return parts, nil
}

// parseGroup reads what follows a dollar sign. Java takes as many digits as
// there are groups.
func parseGroup(text string, pattern *syntax.Regexp) (group int, rest string, err error) {
	names := pattern.CapNames()
	if name, after, ok := strings.Cut(strings.TrimPrefix(text, "{"), "}"); ok && strings.HasPrefix(text, "{") {
		for i, n := range names {
			if n == name && n != "" {
				return i, after, nil
			}
		}
		return 0, "", fmt.Errorf("the replacement names a group %q that the regular expression does not have", name)
	}
	digits := 0
	for digits < len(text) && text[digits] >= '0' && text[digits] <= '9' {
		n, _ := strconv.Atoi(text[:digits+1])
		if n >= len(names) {
			break
		}
		group = n
		digits++
	}
	if digits == 0 {
		return 0, "", errors.New("the replacement has a $ that is followed by no group of the regular expression")
	}
	return group, text[digits:], nil
}
