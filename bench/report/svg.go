package report

import (
	"io"
	"text/template"
)

// Plot draws the first column of a scenario: a bar for each median, and a line from the least to the greatest. It returns false
// if there is nothing to draw.
func (r *Result) Plot(w io.Writer, s Scenario) (bool, error) {
	const (
		line, gap   = 22, 14 // heights of a bar's row, and between cases
		left, width = 330, 440
		top         = 56
	)
	type bar struct {
		Y              int
		Label, Figure  string
		Width, Lo, Hi  float64
		Ours           bool
		Case           string // above the first bar of a case
		FigureX        float64
		CaseY, MiddleY int
	}
	rows := r.rows(s.Number)
	greatest := 0.0
	for _, row := range rows {
		if stat, ok := row.stat(s.Columns[0].Key); ok {
			greatest = max(greatest, stat.Max)
		}
	}
	if greatest == 0 {
		return false, nil
	}
	var bars []bar
	y, last := top, ""
	for _, row := range rows {
		stat, ok := row.stat(s.Columns[0].Key)
		if !ok {
			continue
		}
		b := bar{Label: row.System, Figure: number(stat.Median), Ours: len(row.System) >= 9 && row.System[:9] == "signalbox"}
		if row.Case != last {
			y += gap
			b.Case, b.CaseY = row.Case, y
			y, last = y+8, row.Case
		}
		scale := float64(width) / greatest
		b.Y, b.MiddleY = y, y+line/2-2
		b.Width, b.Lo, b.Hi = scale*stat.Median, left+scale*stat.Min, left+scale*stat.Max
		b.FigureX = b.Hi + 8
		bars = append(bars, b)
		y += line
	}
	return true, plot.Execute(w, map[string]any{
		"Title": s.Title, "Column": s.Columns[0].Title, "Bars": bars, "Height": y + 16, "Left": left, "Bar": line - 6,
	})
}

// The colours are readable on light and dark pages.
var plot = template.Must(template.New("plot").Funcs(template.FuncMap{
	"escape": template.HTMLEscapeString,
	"below":  func(a, b int) int { return a + b },
}).Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 {{.Height}}" width="880" height="{{.Height}}" font-family="system-ui, sans-serif" font-size="13">
<style>text{fill:#24292f}.dim{fill:#57606a}.ours{fill:#1a7f5a}.peer{fill:#8c959f}.spread{stroke:#24292f;stroke-width:1.5}
@media (prefers-color-scheme: dark){text{fill:#e6edf3}.dim{fill:#9198a1}.ours{fill:#3fb98a}.peer{fill:#656c76}.spread{stroke:#e6edf3}}</style>
<text x="12" y="24" font-size="16" font-weight="600">{{escape .Title}}</text>
<text x="12" y="44" class="dim">{{escape .Column}}: median, and the line from least to greatest of the rounds</text>
{{$left := .Left}}{{$bar := .Bar}}{{range .Bars}}{{if .Case}}<text x="12" y="{{.CaseY}}" class="dim">{{escape .Case}}</text>
{{end}}<text x="24" y="{{below .MiddleY 4}}">{{escape .Label}}</text><rect x="{{$left}}" y="{{.Y}}" width="{{printf "%.1f" .Width}}" height="{{$bar}}" rx="2" class="{{if .Ours}}ours{{else}}peer{{end}}"/><line x1="{{printf "%.1f" .Lo}}" x2="{{printf "%.1f" .Hi}}" y1="{{.MiddleY}}" y2="{{.MiddleY}}" class="spread"/><text x="{{printf "%.1f" .FigureX}}" y="{{below .MiddleY 4}}">{{.Figure}}</text>
{{end}}</svg>
`))
