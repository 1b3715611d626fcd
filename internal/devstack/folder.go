package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// folder is a server's place on disk, locked against a second server.
type folder struct {
	path      string
	temporary bool
	lock      *flock.Flock
}

// openFolder creates the folder if need be and locks it. An empty path makes a temporary folder
// that close removes.
func openFolder(path, what string) (*folder, error) {
	f := &folder{path: path}
	if path == "" {
		var err error
		if f.path, err = os.MkdirTemp("", "devstack-"+what+"-"); err != nil {
			return nil, err
		}
		f.temporary = true
	} else {
		var err error
		if f.path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(f.path, 0o700); err != nil {
			return nil, err
		}
	}
	f.lock = flock.New(filepath.Join(f.path, "lock"))
	ok, err := f.lock.TryLock()
	if err == nil && !ok {
		err = fmt.Errorf("folder %s is in use by another running %s", f.path, what)
	}
	if err != nil {
		f.lock.Close()
		return nil, err
	}
	return f, nil
}

func (f *folder) join(elem ...string) string {
	return filepath.Join(append([]string{f.path}, elem...)...)
}

// errClosed is what a restart of a closed server returns.
var errClosed = errors.New("already closed")

// locked reports whether the folder is still ours.
func (f *folder) locked() bool { return f.lock.Locked() }

// close unlocks the folder, and removes it if it is temporary.
func (f *folder) close() error {
	err := f.lock.Close()
	if f.temporary {
		if e := os.RemoveAll(f.path); err == nil {
			err = e
		}
	}
	return err
}
