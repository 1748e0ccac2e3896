package decoder

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
)

// milliseconds is the unit of a time that is a number, in microseconds, unless
// the mapping names another.
const milliseconds = 1000

// instant is a point in time in microseconds since the Unix epoch. It reads what
// micro does not: numbers of the given unit since the epoch, and text in RFC
// 3339 or ISO 8601; without a zone that text is in UTC, like a timestamp.
func (v *value) instant(unit int64) (int64, error) {
	switch v.typeOID {
	case oidInt8, oidInt4:
		number, err := v.integer()
		if err != nil {
			return 0, err
		}
		if number > math.MaxInt64/unit || number < math.MinInt64/unit {
			return 0, errTimeRange
		}
		return checkTime(number * unit)
	case oidNumeric:
		return parseEpoch(v.bytes, unit)
	case oidText, oidVarchar, oidBpchar:
		return parseTime(v.bytes)
	}
	return 0, errNoTimestamp
}

// parseEpoch reads a number with a fraction. What is below a microsecond is cut
// off.
func parseEpoch(text []byte, unit int64) (int64, error) {
	whole, fraction, _ := strings.Cut(string(text), ".")
	number, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(fraction, "0123456789") != "" {
		return 0, errNumber
	}
	if number > math.MaxInt64/unit-1 || number < math.MinInt64/unit+1 {
		return 0, errTimeRange
	}
	micro, part := int64(0), unit
	for _, digit := range fraction {
		part /= 10
		micro += int64(digit-'0') * part
	}
	if strings.HasPrefix(whole, "-") {
		micro = -micro
	}
	return checkTime(number*unit + micro)
}

// isoTime are the forms of a time as text.
var isoTime = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999Z07", "2006-01-02T15:04:05.999999999Z0700",
}

func parseTime(text []byte) (int64, error) {
	iso := bytes.Clone(text)
	const separator = len("2006-01-02")
	if len(iso) > separator && (iso[separator] == ' ' || iso[separator] == 't') {
		iso[separator] = 'T'
	}
	for _, form := range isoTime {
		if at, err := time.Parse(form, string(iso)); err == nil {
			return checkTime(floorMicro(at))
		}
	}
	return 0, errTimeText
}

// floorMicro cuts off what is below a microsecond.
func floorMicro(at time.Time) int64 { return at.Unix()*1_000_000 + int64(at.Nanosecond()/1000) }
