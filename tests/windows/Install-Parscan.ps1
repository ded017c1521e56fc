<#
.SYNOPSIS
Installs parscan's packages, and says which devices took the driver.

.DESCRIPTION
Runs `pnputil /add-driver <inf> /install` for each package that is asked for. Windows gives a device
to the best driver: a parallel port (PNP0400, PNP0401) goes from the in-box driver to parscan, a
listed scanner from its vendor's driver if parscan's is not worse.

Exit code 0: every device that is present and matches has parscan. 1: one has not.

.PARAMETER Package
Folder of the package: what `cargo make` made, target\debug\parscan_package.

.PARAMETER Role
Port (the default), Scanner, or both.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Install-Parscan.ps1 -Package ..\..\target\debug\parscan_package

.EXAMPLE
powershell -ExecutionPolicy Bypass -Command ".\Install-Parscan.ps1 -Package C:\parscan_package -Role Port, Scanner -WhatIf"
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)] [string] $Package,
    [ValidateSet('Port', 'Scanner')] [string[]] $Role = @('Port')
)
. "$PSScriptRoot\common.ps1"
Assert-Administrator

$left = 0
foreach ($wanted in $ParscanPackages | Where-Object { $Role -contains $_.Role }) {
    $inf = Join-Path $Package "$($wanted.Inf).inf"
    foreach ($file in $inf, (Join-Path $Package "$($wanted.Inf).cat"), (Join-Path $Package 'parscan.sys')) {
        if (-not (Test-Path -LiteralPath $file)) { throw "$file is not there." }
    }
    # One INF a call: only then its exit code is about this INF.
    $code = Invoke-Native pnputil.exe @('/add-driver', $inf, '/install') `
        -Accept $Success, $NoBetterDriver, $RestartNeeded, $RestartStarted
    if ($code -eq $NoBetterDriver) {
        Write-Warning "$($wanted.Inf): no device is present that it matches, or all have a better or newer driver."
    }
    $devices = @(Get-ParscanDevice -Role $wanted.Role)
    $devices | Format-Table -AutoSize | Out-Host
    if ($wanted.Role -eq 'Port' -and -not $WhatIfPreference) {
        $left += @($devices | Where-Object { $_.Service -ne $wanted.Service }).Count
    }
}
if ($left -ne 0) {
    Write-Warning "$left port(s) kept another driver. Ranks: pnputil /enum-devices /class Ports /drivers"
    exit 1
}
