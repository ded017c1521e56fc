<#
.SYNOPSIS
Collects in one .zip what is needed to understand how parscan did on this machine.

.DESCRIPTION
Windows' log of device installations, the devices of both packages with their drivers and stacks,
services, Driver Verifier's settings and counts, events about device installation, driver isolation
and bug checks, and the versions of Windows. With -Dumps also the small memory dumps.

It changes nothing but the .zip. Read it before you publish it: it has the machine's name, its
devices and their serial numbers; a memory dump has whatever was in memory.

.PARAMETER Out
The .zip to write.

.PARAMETER Dumps
Adds %windir%\Minidump.

.EXAMPLE
.\Get-ParscanLog.ps1 -Out C:\parscan-log.zip
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)] [string] $Out,
    [switch] $Dumps
)
. "$PSScriptRoot\common.ps1"
Assert-Administrator
if (-not $PSCmdlet.ShouldProcess($Out, 'Collect logs into')) { return }

$folder = New-Item -ItemType Directory -Path (Join-Path ([IO.Path]::GetTempPath()) "parscan-log-$PID")
try {
    # What cannot be had is told in its file; the rest is collected all the same.
    function Save-Log {
        param([string] $Name, [scriptblock] $Command)
        $file = Join-Path $folder.FullName $Name
        try {
            & $Command | Out-File -LiteralPath $file -Encoding utf8 -Width 400
        } catch {
            "not to be had: $_" | Out-File -LiteralPath $file -Encoding utf8 -Append
        }
    }

    Save-Log 'windows.txt' { Get-ComputerInfo -Property 'Os*', 'Windows*', 'Bios*', 'DeviceGuard*' }
    Save-Log 'packages.txt' { Get-ParscanPackage | Format-List }
    Save-Log 'devices.txt' {
        foreach ($role in 'Port', 'Scanner') { Get-ParscanDevice -Role $role | Format-List }
    }
    foreach ($class in 'Ports', 'Image') {
        # /stack, /interfaces and /deviceids need Windows 11.
        Save-Log "pnputil-$class.txt" {
            pnputil.exe /enum-devices /class $class /drivers
            pnputil.exe /enum-devices /class $class /drivers /stack /services /interfaces /deviceids
        }
    }
    Save-Log 'services.txt' { foreach ($package in $ParscanPackages) { sc.exe query $package.Service; sc.exe qc $package.Service } }
    Save-Log 'boot.txt' { bcdedit.exe /enum '{current}' }
    Save-Log 'verifier.txt' { verifier.exe /querysettings; verifier.exe /query }
    Save-Log 'events-pnp.txt' {
        Get-WinEvent -LogName 'Microsoft-Windows-Kernel-PnP/Configuration' -MaxEvents 200 | Format-List TimeCreated, Id, Message
    }
    Save-Log 'events-isolation.txt' {
        foreach ($log in Get-WinEvent -ListLog '*Kernel-XDV*') {
            Get-WinEvent -LogName $log.LogName -MaxEvents 500 | Format-List TimeCreated, Id, Message
        }
    }
    Save-Log 'events-bugcheck.txt' {
        Get-WinEvent -FilterHashtable @{ LogName = 'System'; ProviderName = 'Microsoft-Windows-WER-SystemErrorReporting' } -MaxEvents 20 |
            Format-List TimeCreated, Id, Message
    }
    $logs = @("$env:windir\INF\setupapi.dev.log")
    if ($Dumps) { $logs += "$env:windir\Minidump" }
    foreach ($log in $logs | Where-Object { Test-Path -LiteralPath $_ }) {
        Copy-Item -LiteralPath $log -Destination $folder.FullName -Recurse
    }
    Compress-Archive -Path (Join-Path $folder.FullName '*') -DestinationPath $Out -Force
    Write-Output $Out
} finally {
    Remove-Item -LiteralPath $folder.FullName -Recurse -Force
}
