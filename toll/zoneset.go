package toll

// ZoneSet gives each plaza the zone that its windows align to: its own, or else the database's.
// Like a [Zone] it is for one goroutine.
type ZoneSet struct {
	usual *Zone
	own   map[int16]*Zone
	named map[string]*Zone // clones of own's, one for all plazas of the same name
}

// NewZoneSet returns the zones of plazas that have one of their own, and usual for all others. It
// uses neither itself, but clones of them, so several sets may share both.
func NewZoneSet(usual *Zone, own map[int16]*Zone) *ZoneSet {
	return &ZoneSet{usual: usual.Clone(), own: own, named: map[string]*Zone{}}
}

// Of returns the zone of a plaza.
func (s *ZoneSet) Of(plaza int16) *Zone {
	own := s.own[plaza]
	if own == nil {
		return s.usual
	}
	name := own.Location().String()
	if s.named[name] == nil {
		s.named[name] = own.Clone()
	}
	return s.named[name]
}
