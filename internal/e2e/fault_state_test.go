package e2e

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// damageState harms the state folder of a process again and again while it is down, each time in
// another way. It has to come back by itself, with the right counts.
func damageState(f *injection) {
	w := newWorld(f.T)
	w.must("init")
	l := w.startLoad(newTruth())
	p := w.member("one")
	l.caughtUp("the start", caughtUpWithin, p)
	l.forgetPauses()
	dir := filepath.Join(w.state, "one")
	old := f.TempDir()
	damages := []struct {
		name string
		do   func(t *testing.T)
	}{
		{"an older copy", func(t *testing.T) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(dir, os.DirFS(old)); err != nil {
				t.Fatal(err)
			}
		}},
		{"nonsense at the end of every table", func(t *testing.T) {
			for try := 0; ; try++ {
				tables := 0
				eachFile(t, dir, func(path string, size int64) error {
					if filepath.Ext(path) != ".ldb" {
						return nil
					}
					tables++
					return nonsense(path, size)
				})
				if tables > 0 {
					return
				}
				if try == 3 {
					t.Fatalf("no table below %s", dir)
				}
				// A process writes to the journal, and the next one makes a table of that.
				stored := w.count(`SELECT COALESCE(SUM(events), 0) FROM toll_batch`)
				p = w.member("one")
				w.eventually("more events stored", caughtUpWithin, func() bool {
					return w.count(`SELECT COALESCE(SUM(events), 0) FROM toll_batch`) > stored
				})
				w.merged(l, "the writing of a journal")
				p.kill()
			}
		}},
		{"noise in every file", func(t *testing.T) { eachFile(t, dir, noise) }},
		{"deleted", func(t *testing.T) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}},
		{"every file cut in half", func(t *testing.T) {
			eachFile(t, dir, func(path string, size int64) error { return os.Truncate(path, size/2) })
		}},
		{"some files deleted", func(t *testing.T) {
			eachFile(t, dir, func(path string, _ int64) error {
				if rand.IntN(2) == 0 {
					return os.Remove(path)
				}
				return nil
			})
		}},
		{"noise in some files", func(t *testing.T) {
			eachFile(t, dir, func(path string, size int64) error {
				if rand.IntN(3) > 0 {
					return nil
				}
				return noise(path, size)
			})
		}},
	}
	for round := range max(f.rounds, len(damages)) {
		p.kill()
		if round == 0 {
			if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
				f.Fatal(err)
			}
			p = w.member("one")
			l.caughtUp("after a kill", caughtUpWithin, p)
			p.kill()
		}
		damage := damages[round%len(damages)]
		damage.do(f.T)
		p = w.member("one")
		l.caughtUp("after the state folder was damaged: "+damage.name, caughtUpWithin, p)
		w.merged(l, damage.name)
		f.brief(p)
		f.done()
	}
	f.finish(l, p)
}

// merged waits until the group table holds what was stored before the call.
func (w *world) merged(l *load, what string) {
	w.t.Helper()
	stored := w.count(`SELECT COALESCE(SUM(events), 0) FROM toll_batch`)
	var v report
	w.eventually("merged after "+what, caughtUpWithin, func() bool {
		v = w.verify()
		if v.Status == "mismatch" {
			w.t.Fatalf("%s: %+v", what, v)
		}
		return v.Merged >= stored
	})
}

func eachFile(t *testing.T, dir string, do func(path string, size int64) error) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n++
		return do(path, info.Size())
	})
	if err != nil || n == 0 {
		t.Fatalf("damage %d files of %s: %v", n, dir, err)
	}
}

// noise overwrites some of a file's bytes.
func noise(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for range 1 + size/500 {
		if _, err := f.WriteAt([]byte{byte(rand.Uint32()), byte(rand.Uint32())},
			rand.Int64N(size+1)); err != nil {
			return err
		}
	}
	return nil
}

// nonsense lets the end of a table of LevelDB say that a block of it takes terabytes, and leaves
// the mark of a table behind that.
func nonsense(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// begins at 1, 1<<42 bytes long
	_, err = f.WriteAt([]byte{1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, size-48)
	return err
}

// foreignState gives a process the state folder of another group, and then a file in its place.
func foreignState(f *injection) {
	other := newWorld(f.T)
	other.must("init")
	other.sender(newTruth()).send(2000)
	other.must("process", "--until-end", "--instance", "one")

	w := newWorld(f.T)
	w.must("init")
	l := w.startLoad(newTruth())
	p := w.member("one", "--state-dir", other.state)
	l.caughtUp("with the state folder of another group", caughtUpWithin, p)
	w.merged(l, "start with the state folder of another group")
	p.interrupt()
	f.done()

	file := filepath.Join(f.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		f.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		started := time.Now()
		w.refuses([]string{"process", "--state-dir", dir}, "make the state folder", "--state-dir")
		if took := time.Since(started); took > 30*time.Second {
			f.Errorf("a state folder that can't be made was refused after %v", took)
		}
	}
	f.done()
	p = w.member("one")
	l.caughtUp("with a folder of its own", caughtUpWithin, p)
	f.finish(l, p)
	if strings.Contains(p.log.String(), "damaged") {
		f.Errorf("a new state folder is called damaged:\n%s", p.log)
	}
}
