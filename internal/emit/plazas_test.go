package emit

import "testing"

func TestParsePlazas(t *testing.T) {
	for list, want := range map[string]int{
		"4000-4010,4856": 12, "4856": 1, "0-32767": 32768, " 1 , 2 - 3 ": 3,
		"": -1, "1,": -1, "-1": -1, "1-": -1, "32768": -1, "2-1": -1, "1-2-3": -1, "a": -1,
	} {
		plazas, err := ParsePlazas(list)
		got := len(plazas)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d (%v), want %d", list, got, err, want)
		}
	}
}
