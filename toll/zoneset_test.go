package toll

import "testing"

func TestZoneSet(t *testing.T) {
	own := map[int16]*Zone{2: zoneOf(t, "Asia/Kathmandu"), 3: zoneOf(t, "Asia/Kathmandu")}
	s, other := NewZoneSet(zoneOf(t, "UTC"), own), NewZoneSet(zoneOf(t, "UTC"), own)
	if s.Of(2) != s.Of(3) || s.Of(1) != s.Of(4) {
		t.Error("plazas of the same zone don't share it")
	}
	if s.Of(2) == other.Of(2) || s.Of(1) == other.Of(1) || s.Of(2) == own[2] {
		t.Error("two sets share a zone, which is for one goroutine")
	}
	for plaza, want := range map[int16]string{1: "UTC", 2: "Asia/Kathmandu"} {
		if got := s.Of(plaza).Location().String(); got != want {
			t.Errorf("plaza %d is in %s, want %s", plaza, got, want)
		}
	}
}
