package traffic

import "github.com/tollstream/tollstream/toll"

// Notice is a stored result that is to be published: a closed window, or a change of a plaza's
// congestion. One of the two is set.
type Notice struct {
	Ref        NoticeRef
	Window     *toll.WindowResult
	Transition *Transition
}

// NoticeRef names a notice: a revision of a window, or where Revision is 0 the plaza's transition
// of that number, which is the minute at whose end it was detected.
type NoticeRef struct {
	toll.WindowID
	Revision int64
	Number   int64
}
