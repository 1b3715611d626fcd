package codecs

import (
	"encoding/json"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tollstream/tollstream/toll"
)

// AppendCSV appends an event as the course's producer writes it, Python's time.ctime and all,
// without a line end:
//
//	Thu Feb 10 10:23:02 2022,3728373,car,4856
//
// A type with a comma or a quote is quoted as in RFC 4180.
func AppendCSV(dst []byte, e *toll.Event) []byte {
	dst = e.Time.AppendFormat(dst, "Mon Jan _2 15:04:05 2006")
	dst = append(dst, ',')
	dst = strconv.AppendInt(dst, int64(e.Vehicle), 10)
	dst = append(dst, ',')
	if strings.ContainsAny(e.Type, `,"`) {
		dst = append(dst, '"')
		dst = append(dst, strings.ReplaceAll(e.Type, `"`, `""`)...)
		dst = append(dst, '"')
	} else {
		dst = append(dst, e.Type...)
	}
	dst = append(dst, ',')
	return strconv.AppendInt(dst, int64(e.Plaza), 10)
}

// AppendJSON appends an event as JSON, its timestamp in RFC 3339 with the zone's offset:
//
//	{"timestamp":"2022-02-10T10:23:02+01:00","vehicle_id":3728373,"vehicle_type":"car",
//	 "toll_plaza_id":4856}
//
// A wall time that the zone's clock skips in spring has no offset and is written without one; a
// decoder of the same zone reads it as it was.
func AppendJSON(dst []byte, e *toll.Event, zone *toll.Zone) []byte {
	dst = append(dst, `{"timestamp":"`...)
	unix, shown := zone.Instant(e.Time)
	east := int64(e.Time) - unix
	if minutes := east / 60; !shown {
		dst = e.Time.AppendFormat(dst, "2006-01-02T15:04:05")
	} else if east%60 == 0 {
		dst = e.Time.AppendFormat(dst, "2006-01-02T15:04:05")
		sign := byte('+')
		if minutes < 0 {
			sign, minutes = '-', -minutes
		}
		h, m := minutes/60, minutes%60
		dst = append(dst, sign, byte('0'+h/10), byte('0'+h%10), ':', byte('0'+m/10), byte('0'+m%10))
	} else {
		// A local time of old, with seconds in its offset, which RFC 3339 can't express.
		dst = toll.WallTime(unix).AppendFormat(dst, "2006-01-02T15:04:05Z")
	}
	dst = append(dst, `","vehicle_id":`...)
	dst = strconv.AppendInt(dst, int64(e.Vehicle), 10)
	dst = append(dst, `,"vehicle_type":`...)
	dst = appendJSONString(dst, e.Type)
	dst = append(dst, `,"toll_plaza_id":`...)
	dst = strconv.AppendInt(dst, int64(e.Plaza), 10)
	return append(dst, '}')
}

func appendJSONString(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string always marshals
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// AppendProtobuf appends an event as a tollpb.TollEvent. An instant can't say a wall time that the
// zone's clock skips: it comes back as the last second before the change.
func AppendProtobuf(dst []byte, e *toll.Event, zone *toll.Zone) []byte {
	dst = protowire.AppendTag(dst, pbUnixSeconds, protowire.VarintType)
	dst = protowire.AppendVarint(dst, uint64(zone.Unix(e.Time)))
	dst = protowire.AppendTag(dst, pbVehicle, protowire.VarintType)
	dst = protowire.AppendVarint(dst, uint64(e.Vehicle))
	dst = protowire.AppendTag(dst, pbType, protowire.BytesType)
	dst = protowire.AppendString(dst, e.Type)
	dst = protowire.AppendTag(dst, pbPlaza, protowire.VarintType)
	return protowire.AppendVarint(dst, protowire.EncodeZigZag(int64(e.Plaza)))
}
