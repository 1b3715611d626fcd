package incidents_test

import (
	"testing"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }
