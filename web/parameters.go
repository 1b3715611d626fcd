package web

import (
	"net/http"
	"strconv"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/web/serve"
)

// plazaID reads the plaza that a path names, written as we write it.
func plazaID(r *http.Request) (int16, serve.ParameterErrors) {
	text := r.PathValue("id")
	n, err := strconv.ParseInt(text, 10, 16)
	if err != nil || strconv.FormatInt(n, 10) != text {
		var errs serve.ParameterErrors
		errs.Add("id", "want a number from %d to %d", toll.MinPlaza, toll.MaxPlaza)
		return 0, errs
	}
	return int16(n), nil
}
