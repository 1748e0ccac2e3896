package debezium

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// untranslatable are constructs of Java's regular expressions that RE2 lacks, or
// to which it gives another meaning.
var untranslatable = []struct {
	form *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`\(\?<?[=!]`), "a lookaround"},
	{regexp.MustCompile(`\(\?>`), "an atomic group"},
	{regexp.MustCompile(`\\[1-9]|\\k<`), "a backreference"},
	{regexp.MustCompile(`(?:[*+?]|\{[0-9,]+\})\+`), "a possessive quantifier"},
	{regexp.MustCompile(`&&`), "an intersection of character classes"},
	{regexp.MustCompile(`\[[^\]]*\[`), "a character class inside another"},
	{regexp.MustCompile(`\\[GZRhHVvXN]`), "an escape that only Java has"},
	{regexp.MustCompile(`\\[pP]\{(?:Is|java|In|block|script)`), "a property that only Java has"},
	{regexp.MustCompile(`\(\?[a-z]*[xudU][a-z]*(?:-[a-z]+)?[:)]`), "a flag that only Java has"},
}

// parsePattern parses a regular expression of Java. The error names what cannot
// be translated.
func parsePattern(text string) (*syntax.Regexp, error) {
	plain := strings.NewReplacer(`\\`, "..", `\+`, "..", `\[`, "..", `\(`, "..", `\*`, "..", `\?`, "..").Replace(text)
	for _, u := range untranslatable {
		if u.form.MatchString(plain) {
			return nil, fmt.Errorf("the regular expression has %s", u.name)
		}
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, errors.New("the regular expression is not one that Go can read")
	}
	return parsed, nil
}

// piece is a part of what a pattern matches.
type piece struct {
	text string // of a constant; for others, as in a pattern of aggregate types
	kind pieceKind
}

type pieceKind int

const (
	constant pieceKind = iota
	anyText
	anyCharacter
	opening // of a group, whose number is in text
	closing
)

// branch is one way to match a pattern: one piece after the other.
type branch []piece

// mostBranches bounds how many alternatives a pattern may have.
const mostBranches = 64

var (
	errTooMany = fmt.Errorf("the regular expression has more than %d alternatives", mostBranches)
	errComplex = errors.New("the regular expression has a part that is neither a constant nor any text")
	errLazy    = errors.New("the regular expression has a quantifier that takes as little as possible")
	errCase    = errors.New("the regular expression ignores case")
)

// branches returns all ways to match, in the order in which Java tries them.
func branches(re *syntax.Regexp) ([]branch, error) {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine:
		return []branch{nil}, nil
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return nil, errCase
		}
		return []branch{{{text: string(re.Rune)}}}, nil
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []branch{{{text: "?", kind: anyCharacter}}}, nil
	case syntax.OpCharClass:
		return characters(re)
	case syntax.OpStar, syntax.OpPlus:
		return anyTexts(re)
	case syntax.OpQuest:
		return optional(re)
	case syntax.OpCapture:
		inner, err := branches(re.Sub[0])
		number := strconv.Itoa(re.Cap)
		for i := range inner {
			inner[i] = append(append(branch{{text: number, kind: opening}}, inner[i]...), piece{text: number, kind: closing})
		}
		return inner, err
	case syntax.OpAlternate:
		return alternatives(re)
	case syntax.OpConcat:
		return products(re)
	default:
		return nil, errComplex
	}
}

// characters are the alternatives of a class of a few characters.
func characters(re *syntax.Regexp) ([]branch, error) {
	const most = 8
	var all []branch
	for i := 0; i < len(re.Rune); i += 2 {
		for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
			all = append(all, branch{{text: string(r)}})
			if len(all) > most {
				return nil, errComplex
			}
		}
	}
	return all, nil
}

func anyTexts(re *syntax.Regexp) ([]branch, error) {
	if re.Flags&syntax.NonGreedy != 0 {
		return nil, errLazy
	}
	if op := re.Sub[0].Op; op != syntax.OpAnyChar && op != syntax.OpAnyCharNotNL {
		return nil, errComplex
	}
	if re.Op == syntax.OpPlus {
		return []branch{{{text: "?", kind: anyCharacter}, {text: "*", kind: anyText}}}, nil
	}
	return []branch{{{text: "*", kind: anyText}}}, nil
}

func optional(re *syntax.Regexp) ([]branch, error) {
	if re.Flags&syntax.NonGreedy != 0 {
		return nil, errLazy
	}
	inner, err := branches(re.Sub[0])
	return append(inner, nil), err
}

func alternatives(re *syntax.Regexp) ([]branch, error) {
	var all []branch
	for _, sub := range re.Sub {
		inner, err := branches(sub)
		if err != nil {
			return nil, err
		}
		if all = append(all, inner...); len(all) > mostBranches {
			return nil, errTooMany
		}
	}
	return all, nil
}

func products(re *syntax.Regexp) ([]branch, error) {
	all := []branch{nil}
	for _, sub := range re.Sub {
		inner, err := branches(sub)
		if err != nil {
			return nil, err
		}
		if len(all)*len(inner) > mostBranches {
			return nil, errTooMany
		}
		var longer []branch
		for _, before := range all {
			for _, after := range inner {
				longer = append(longer, append(append(branch{}, before...), after...))
			}
		}
		all = longer
	}
	return all, nil
}

// isConstant reports whether the branch matches one text only.
func (b branch) isConstant() bool {
	for _, p := range b {
		if p.kind == anyText || p.kind == anyCharacter {
			return false
		}
	}
	return true
}

// endsOpen reports whether the branch ends with any text.
func (b branch) endsOpen() bool {
	for _, p := range slices.Backward(b) {
		if p.kind != closing && p.kind != opening {
			return p.kind == anyText
		}
	}
	return false
}

// isEverything reports whether the branch matches every text that is not empty.
func (b branch) isEverything() bool {
	glob := b.glob()
	return glob == "*" || glob == "?*"
}

// glob is the branch as a pattern of aggregate types.
func (b branch) glob() string {
	var glob strings.Builder
	for _, p := range b {
		switch p.kind {
		case constant:
			glob.WriteString(strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p.text))
		case anyText, anyCharacter:
			glob.WriteString(p.text)
		case opening, closing:
		}
	}
	return glob.String()
}

// text is what a constant branch matches.
func (b branch) text() string {
	var text strings.Builder
	for _, p := range b {
		if p.kind == constant {
			text.WriteString(p.text)
		}
	}
	return text.String()
}
