package results_test

import (
	"context"
	"testing"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll/traffic"
)

func TestMain(m *testing.M) {
	dbtest.UnpublishedOf = func(ctx context.Context, r *results.Writer,
		plazas []int16) ([]traffic.Notice,
		error) {
		return r.Unpublished(ctx, plazas)
	}
	dbtest.Main(m)
}
