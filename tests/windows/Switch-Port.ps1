<#
.SYNOPSIS
Gives the parallel ports to parscan or back to Windows' own driver, and checks that it happened.

.DESCRIPTION
To Parscan: installs the package as Install-Parscan.ps1 does. To InBox: deletes parscan's package
for ports, so that Windows moves its devices to the next best driver, and looks for hardware changes.
Afterwards every port must have the service that was asked for. Close programs that have a port open
first: a port in use is switched at the next restart.

Exit code 0: all ports were switched. 1: one was not.

.PARAMETER To
Parscan or InBox.

.PARAMETER Package
Folder of the package; needed to go to Parscan.

.PARAMETER Rounds
How often to switch there and back. More than one is a test of loading and unloading.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Switch-Port.ps1 -To Parscan -Package ..\..\target\debug\parscan_package

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Switch-Port.ps1 -To InBox

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Switch-Port.ps1 -To InBox -Package C:\parscan_package -Rounds 20
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)] [ValidateSet('Parscan', 'InBox')] [string] $To,
    [string] $Package,
    [ValidateRange(1, 1000)] [int] $Rounds = 1
)
. "$PSScriptRoot\common.ps1"
Assert-Administrator
if (-not $Package -and ($To -eq 'Parscan' -or $Rounds -gt 1)) { throw 'Name the package''s folder with -Package.' }

function Switch-Once {
    [CmdletBinding(SupportsShouldProcess)]
    param([string] $To)
    if ($To -eq 'Parscan') {
        $inf = Join-Path $Package 'parscan_lpt.inf'
        $null = Invoke-Native pnputil.exe @('/add-driver', $inf, '/install') `
            -Accept $Success, $NoBetterDriver, $RestartNeeded, $RestartStarted
    } else {
        if (-not (Remove-ParscanPackage -Role Port)) { Write-Warning 'parscan was not installed.' }
        $null = Invoke-Native pnputil.exe @('/scan-devices')
    }
    $wrong = @(Get-ParscanDevice -Role Port |
            Where-Object { ($_.Service -eq 'ParscanPort') -ne ($To -eq 'Parscan') })
    if ($wrong.Count -ne 0 -and -not $WhatIfPreference) {
        $wrong | Format-Table -AutoSize | Out-Host
        Write-Warning "$($wrong.Count) port(s) were not switched to $To."
        exit 1
    }
}

$back = if ($To -eq 'Parscan') { 'InBox' } else { 'Parscan' }
for ($round = 1; $round -lt $Rounds; $round++) {
    Write-Progress -Activity 'Switching' -Status "round $round of $Rounds"
    Switch-Once -To $To
    Switch-Once -To $back
}
Switch-Once -To $To
Get-ParscanDevice -Role Port | Format-Table -AutoSize
