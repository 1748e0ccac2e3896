package decoder

import (
	"strconv"
	"time"
)

// debeziumTime is io.debezium.time.ZonedTimestamp, of a column without a
// precision.
const debeziumTime = "2006-01-02T15:04:05.000000Z"

// appendDebezium appends the value as Debezium's connector for PostgreSQL hands
// it to a converter. Only columns of types for which that is known get here
// (replication.Compatible).
func (v *value) appendDebezium(scratch []byte) (text, grown []byte, err error) {
	if v.typeOID != oidTimestamp && v.typeOID != oidTimestamptz {
		return v.appendText(scratch)
	}
	micro, err := v.micro()
	if err != nil {
		return nil, scratch, err
	}
	start := len(scratch)
	if v.typeOID == oidTimestamp {
		scratch = strconv.AppendInt(scratch, micro, 10)
	} else {
		scratch = time.UnixMicro(micro).UTC().AppendFormat(scratch, debeziumTime)
	}
	return scratch[start:], scratch, nil
}

// isBare reports whether JSON writes the value without quotes. A timestamp is a
// number to Debezium.
func (v *value) isBare() bool {
	switch v.typeOID {
	case oidInt2, oidInt4, oidInt8, oidBool, oidTimestamp:
		return true
	}
	return false
}
