package bench

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc's times: USER_HZ, which is 100 on all that Linux runs on.
const ticksPerSecond = 100

// cpuTime returns the CPU time that a process has taken, in user mode and in the kernel.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in brackets, which may hold blanks.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3 // proc(5) counts from 1, and two fields are cut off
	var user, system int64
	if _, err := fmt.Sscan(string(fields[utime])+" "+string(fields[stime]), &user,
		&system); err != nil {
		return 0, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
	}
	return time.Duration(user+system) * time.Second / ticksPerSecond, nil
}

// peakMemory returns the most resident memory that a process has had, in MiB; 0 where it has ended.
func peakMemory(pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, text, _ := strings.Cut(string(status), "\nVmHWM:")
	var kib float64
	if _, err := fmt.Sscan(text, &kib); err != nil {
		return 0
	}
	return kib / 1024
}

// usage is a stretch of time in which the CPU time of processes is measured.
type usage struct {
	began  time.Time
	pids   []int
	before []time.Duration
}

func startUsage(pids ...int) (*usage, error) {
	u := &usage{began: time.Now(), pids: pids}
	for _, pid := range pids {
		t, err := cpuTime(pid)
		if err != nil {
			return nil, err
		}
		u.before = append(u.before, t)
	}
	return u, nil
}

// spent returns what each process has taken since.
func (u *usage) spent() (spent []time.Duration, err error) {
	for i, pid := range u.pids {
		t, err := cpuTime(pid)
		if err != nil {
			return nil, err
		}
		spent = append(spent, t-u.before[i])
	}
	return spent, nil
}

// percent returns the same in percent of one core.
func (u *usage) percent() (shares []float64, err error) {
	took := time.Since(u.began)
	spent, err := u.spent()
	for _, s := range spent {
		shares = append(shares, 100*s.Seconds()/took.Seconds())
	}
	return shares, err
}
